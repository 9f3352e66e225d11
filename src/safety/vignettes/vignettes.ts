/** What people write: per sign, sentences that must raise it and sentences that must not. */
export interface Vignettes {
  readonly yes: readonly string[];
  readonly no: readonly string[];
}
