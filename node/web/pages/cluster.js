// Cluster: is it well, who leads, how many may fail; the members; what happened, in which order.

export const title = 'Cluster';

export function mount(root, {el}) {
  root.append(el('h1', null, title));
  return () => {};
}
