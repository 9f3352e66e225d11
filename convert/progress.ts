import { SingleBar } from 'cli-progress';

/** A bar on a terminal; nothing where the output goes to a file or a pipe. */
export class Progress {
  #bar: SingleBar | null = null;
  #phase = '';

  readonly show = (phase: string, done: number, total: number): void => {
    if (!process.stderr.isTTY) return;
    if (phase !== this.#phase) {
      this.end();
      this.#phase = phase;
      this.#bar = new SingleBar({
        format: `${phase.padEnd(12)} {bar} {percentage}% | {eta_formatted}`,
        hideCursor: true,
      });
      this.#bar.start(total, done);
    }
    this.#bar?.update(done);
  };

  end(): void {
    this.#bar?.stop();
    this.#bar = null;
    this.#phase = '';
  }
}
