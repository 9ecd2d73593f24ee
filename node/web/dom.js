// Elements made from text. Nothing here, and nothing that uses it, ever parses a string as HTML: a name
// or a value that looks like a tag is shown as the text it is.

const SVG = 'http://www.w3.org/2000/svg';

// el('button', {class: 'quiet', onclick: stop}, 'Stop'): properties that begin with `on` are listeners,
// `style` is an object set by the CSSOM (the policy of the page forbids style attributes), true is an
// empty attribute, false and null leave it out. Children are nodes, texts, numbers, or arrays of them.
export function el(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'style') Object.assign(node.style, value);
    else if (name === 'value' || name === 'checked' || name === 'indeterminate') node[name] = value;
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(node, child);
    else node.append(child instanceof Node ? child : String(child));
  }
}

// Put these children in place of those that are there.
export function replace(node, ...children) {
  node.replaceChildren();
  append(node, children);
}

// Set the text only where it differs, so that a selection in it and a screen reader are left alone.
export function setText(node, text) {
  const next = String(text);
  if (node.textContent !== next) node.textContent = next;
}
