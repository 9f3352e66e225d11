/** The Cache API as far as the app's files need it, in memory. */
export class FakeCaches {
  readonly stores = new Map<string, Map<string, Response>>();

  keys(): Promise<string[]> {
    return Promise.resolve([...this.stores.keys()]);
  }

  delete(name: string): Promise<boolean> {
    return Promise.resolve(this.stores.delete(name));
  }

  open(name: string) {
    const store = this.stores.get(name) ?? new Map<string, Response>();
    this.stores.set(name, store);
    return Promise.resolve({
      match: (url: string) => Promise.resolve(store.get(url)?.clone()),
      put: (url: string, response: Response) => {
        store.set(url, response);
        return Promise.resolve();
      },
    });
  }
}

/** A server that has these files and counts what it is asked for. */
export class FakeSite {
  readonly asked: string[] = [];
  readonly files: Map<string, string>;

  constructor(files: Readonly<Record<string, string>>) {
    this.files = new Map(Object.entries(files));
  }

  fetch = (request: Request): Promise<Response> => {
    const path = new URL(request.url).pathname.slice(1);
    this.asked.push(path);
    const body = this.files.get(path);
    if (body === undefined) return Promise.resolve(new Response('none', { status: 404 }));
    const type = path.endsWith('.html') ? 'text/html' : 'text/javascript';
    return Promise.resolve(new Response(body, { headers: { 'content-type': type } }));
  };
}
