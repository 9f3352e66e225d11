/** Hands a text to the person as a file, through the browser's own way of saving. */
export function saveFile(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // The download has taken what it needs long before.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A text as part of a file's name: without what a file system may not like. */
export function fileName(text: string): string {
  const plain = text.replace(/[^\p{L}\p{N} -]/gu, '').trim();
  return [...plain].slice(0, 40).join('') || 'consultation';
}
