/// <reference types="vite/client" />

/** Public keys of whoever signs packages for this build (src/store/signed.ts). */
interface ImportMetaEnv {
  readonly VITE_PACKAGE_KEY?: string;
  readonly VITE_PACKAGE_KEY_NEXT?: string;
}
