// Edits as data, the same as in `tests/src/operation.rs`: one side of a test carries them out in Yjs, the other in yrs.

import * as Y from 'yjs'

const position = (at, length) => Math.floor(at * (length + 1))

/** The part of `length` units at most that begins at a position in something of `all`, if there is any. */
function part(at, length, all) {
  if (all === 0) return undefined
  const start = position(at, all - 1)
  return [start, Math.min(length, all - start)]
}

const CARRY_OUT = {
  insert(doc, { at, text, attributes }) {
    const root = doc.getText('t')
    root.insert(position(at, root.length), text, attributes ?? undefined)
  },
  embed(doc, { at, value }) {
    const root = doc.getText('t')
    root.insertEmbed(position(at, root.length), value)
  },
  delete(doc, { at, length }) {
    const root = doc.getText('t')
    const range = part(at, length, root.length)
    if (range) root.delete(...range)
  },
  format(doc, { at, length, attributes }) {
    const root = doc.getText('t')
    const range = part(at, length, root.length)
    if (range) root.format(...range, attributes)
  },
  set: (doc, { key, value }) => doc.getMap('m').set(key, value),
  set_text: (doc, { key, text }) => doc.getMap('m').set(key, new Y.Text(text)),
  unset: (doc, { key }) => doc.getMap('m').delete(key),
  add(doc, { at, value }) {
    const root = doc.getArray('a')
    root.insert(position(at, root.length), [value])
  },
  remove(doc, { at, length }) {
    const root = doc.getArray('a')
    const range = part(at, length, root.length)
    if (range) root.delete(...range)
  },
  element(doc, { at, tag, text }) {
    const root = doc.getXmlFragment('x')
    const element = new Y.XmlElement(tag)
    element.insert(0, [new Y.XmlText(text)])
    root.insert(position(at, root.length), [element])
  },
  attribute(doc, { at, key, value }) {
    const root = doc.getXmlFragment('x')
    const range = part(at, 1, root.length)
    const node = range && root.get(range[0])
    if (node instanceof Y.XmlElement) node.setAttribute(key, value)
  },
  prune(doc, { at }) {
    const root = doc.getXmlFragment('x')
    const range = part(at, 1, root.length)
    if (range) root.delete(...range)
  },
}

/** Makes one edit of some operations in a Y.Doc. */
export function edit(doc, operations) {
  doc.transact(() => {
    for (const operation of operations) CARRY_OUT[operation.op](doc, operation)
  })
}

/** What a Y.Doc holds. */
export function contentOf(doc) {
  return {
    text: doc.getText('t').toDelta(),
    map: doc.getMap('m').toJSON(),
    array: doc.getArray('a').toJSON(),
    xml: doc.getXmlFragment('x').toString(),
  }
}

/** What random edits are made of: everything that both can write. */
export function randomOperation(random) {
  const whole = below => Math.floor(random() * below)
  const one = list => list[whole(list.length)]
  const word = () => one(['wind', 'and', 'sand', 'é', '漢字', ' ', 'x', '\n'])
  const value = () => one([null, true, 7, -3, 1.5, 2 ** 40, 'text', '', [1, ['a']], { k: { l: [false] } }])
  const key = () => one(['k0', 'k1', 'k2', '漢'])
  const attributes = () =>
    one([{ bold: true }, { bold: null }, { color: 'red' }, { color: one(['blue', null]), bold: true }])
  const at = random()
  return one([
    () => ({ op: 'insert', at, text: word() + word() }),
    () => ({ op: 'insert', at, text: word() }),
    () => ({ op: 'insert', at, text: word(), attributes: one([{ bold: true }, { color: 'red' }]) }),
    () => ({ op: 'embed', at, value: { image: word() } }),
    () => ({ op: 'delete', at, length: 1 + whole(5) }),
    () => ({ op: 'delete', at, length: 1 + whole(5) }),
    () => ({ op: 'format', at, length: 1 + whole(9), attributes: attributes() }),
    () => ({ op: 'format', at, length: 1 + whole(9), attributes: attributes() }),
    () => ({ op: 'set', key: key(), value: value() }),
    () => ({ op: 'set_text', key: key(), text: word() }),
    () => ({ op: 'unset', key: key() }),
    () => ({ op: 'add', at, value: value() }),
    () => ({ op: 'add', at, value: value() }),
    () => ({ op: 'remove', at, length: 1 + whole(3) }),
    () => ({ op: 'element', at, tag: one(['p', 'h1']), text: word() }),
    () => ({ op: 'attribute', at, key: one(['id', 'class']), value: word() }),
    () => ({ op: 'prune', at }),
  ])()
}
