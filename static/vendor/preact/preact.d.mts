// What of Preact our modules use; for the type check only.
export declare class Component<P = any, S = any> {
  props: P;
  state: S;
  constructor(props?: P);
  setState(state: Partial<S>): void;
  render(props: P, state: S): any;
  componentDidMount?(): void;
  componentDidUpdate?(before: P): void;
  componentWillUnmount?(): void;
}
export declare function h(type: any, props: any, ...children: any[]): any;
export declare function render(tree: any, parent: Element): void;
