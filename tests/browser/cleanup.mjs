// What a test leaves behind is cleared away when it ends, the last thing first: Node's own hooks run first things first,
// and a folder cannot go before the process that writes into it.

const stacks = new WeakMap()

/** Calls `action` when the test `t` ends. */
export function atEnd(t, action) {
  const stack = stacks.get(t) ?? []
  if (!stacks.has(t)) {
    stacks.set(t, stack)
    t.after(async () => {
      for (const action of stack.reverse()) await action()
    })
  }
  stack.push(action)
}
