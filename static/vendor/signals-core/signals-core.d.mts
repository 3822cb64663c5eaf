// What of signals our modules use; for the type check only.
export interface Signal<T> {
  value: T;
  peek(): T;
}
export declare function signal<T>(value: T): Signal<T>;
export declare function computed<T>(make: () => T): { readonly value: T };
export declare function effect(act: () => void): () => void;
export declare function batch(act: () => void): void;
