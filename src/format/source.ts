/** Where the bytes of a model package come from: a folder, OPFS, a test. */
export interface PackageSource {
  /**
   * The whole of one file: 'manifest.json', or a file that the manifest lists. Listed files are
   * verified (length and SHA-256) before they are returned.
   * @throws Failure NotFound, ShardTruncated, ShardCorrupt, Offline and the storage failures
   */
  read(name: string): Promise<Uint8Array<ArrayBuffer>>;
}
