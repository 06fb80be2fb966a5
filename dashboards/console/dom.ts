// Building and keeping elements. All text goes in as text nodes: what a device sent can never become markup.

type Child = Node | string | false | undefined
type Properties = Record<string, string | boolean | number | undefined | ((event: never) => void)>

/** An element with attributes, listeners (`onclick`) and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties,
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value as EventListener)
    else if (value === true) element.setAttribute(name, '')
    else if (value !== false && value !== undefined) element.setAttribute(name, String(value))
  }
  for (const child of children) if (child !== false && child !== undefined) element.append(child)
  return element
}

/** A table in a panel that scrolls by itself where it is wider than the page. */
export function tableOf(heads: readonly string[], body: HTMLElement, kind: string): HTMLElement {
  const head = h('thead', {}, h('tr', {}, ...heads.map((text) => h('th', { scope: 'col' }, text))))
  return h('div', { class: 'panel scroll' }, h('table', { class: kind }, head, body))
}

/** Changes the text only when it differs, so that selections and screen readers stay where they are. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text
}

/** Keeps one child for each item in order: makes what is new, updates what is there, removes what has gone. */
export function keyed<T>(
  parent: Element,
  items: readonly T[],
  keyOf: (item: T) => string,
  make: (item: T) => HTMLElement,
  update: (element: HTMLElement, item: T) => void,
): void {
  const present = new Map<string, HTMLElement>()
  for (const child of parent.children) {
    if (child instanceof HTMLElement && child.dataset.key !== undefined) present.set(child.dataset.key, child)
  }
  let at = parent.firstElementChild
  for (const item of items) {
    const key = keyOf(item)
    const element = present.get(key) ?? make(item)
    element.dataset.key = key
    present.delete(key)
    update(element, item)
    if (element === at) at = at.nextElementSibling
    else parent.insertBefore(element, at)
  }
  for (const element of present.values()) element.remove()
}

/** Runs at once and then every so often while the page is looked at, until `signal`; never twice at a time. */
export function every(ms: number, signal: AbortSignal, task: () => Promise<void>): () => void {
  let running = false
  let again = false
  const run = async () => {
    if (running) {
      again = true
      return
    }
    running = true
    try {
      do {
        again = false
        await task()
      } while (again && !signal.aborted)
    } finally {
      running = false
    }
  }
  const turn = () => {
    if (!document.hidden) void run()
  }
  const timer = setInterval(turn, ms)
  document.addEventListener('visibilitychange', turn, { signal })
  signal.addEventListener('abort', () => clearInterval(timer))
  turn()
  return turn
}
