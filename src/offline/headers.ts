/**
 * What every answer of our own site says to the browser. A server may send these headers, and the
 * service worker puts them on whatever it answers, so that a plain static host is enough.
 */

/** Directives that may also stand in a page's meta element. */
const policy: Readonly<Record<string, string>> = {
  'default-src': "'none'",
  // WebAssembly is compiled (ONNX Runtime, XGrammar); text never is.
  'script-src': "'self' 'wasm-unsafe-eval'",
  'worker-src': "'self'",
  'connect-src': "'self'",
  'img-src': "'self' data: blob:",
  'style-src': "'self'",
  'font-src': "'self'",
  'manifest-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'none'",
  'require-trusted-types-for': "'script'",
  'trusted-types': 'default',
};

const write = (directives: Readonly<Record<string, string>>): string =>
  Object.entries(directives)
    .map(([name, value]) => `${name} ${value}`)
    .join('; ');

/** The policy for the page's meta element: it counts on the very first visit to a plain host. */
export const metaPolicy = write(policy);

/** For a development server, which styles the page inline, talks to it and has no such types. */
export const developmentPolicy = write({
  ...Object.fromEntries(Object.entries(policy).filter(([name]) => !name.includes('trusted-types'))),
  'style-src': "'self' 'unsafe-inline'",
});

/** A cross-origin isolated page may have threads, which the CPU backend uses. */
export const isolationHeaders: Readonly<Record<string, string>> = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  'cross-origin-resource-policy': 'same-origin',
};

/** Every header, for servers and the service worker. */
export const securityHeaders: Readonly<Record<string, string>> = {
  ...isolationHeaders,
  // A worker does not inherit the page's meta element: only a header binds it.
  'content-security-policy': write({ ...policy, 'frame-ancestors': "'none'" }),
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'permissions-policy':
    'camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), hid=()',
};
