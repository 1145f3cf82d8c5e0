// A device in the words of the package: a client with a store of its own.

import {
  type Client,
  type DeltaOperation,
  type Doc,
  type DocValue,
  map,
  open,
  type Status,
  text,
} from 'tidewell'

import type { Device, DeviceStatus, SharedText, Task, Tasks } from './device.js'
import { applyChange, type Change, changeBetween, type Delta, type DeltaStep } from './text_change.js'

/** Opens a document on the device of this name. Fails when the package does. */
export async function openDevice(document: string, name: string): Promise<Device> {
  const client = await open({ url: location.origin, store: `demo-${name}` })
  const network = networkOf(client, `demo-${name}-network`)
  const doc = await client.doc(document)
  return {
    notes: notesOf(doc),
    tasks: tasksOf(doc),
    ...statusOf(doc, network.isOn),
    setNetwork: network.set,
  }
}

/** The network of a client, which stays cut when the page is loaded again, until its window is closed. */
function networkOf(client: Client, key: string): { isOn(): boolean; set(on: boolean): void } {
  let on = sessionStorage.getItem(key) !== 'off'
  if (!on) client.pause()
  return {
    isOn: () => on,
    set(next) {
      on = next
      sessionStorage.setItem(key, on ? 'on' : 'off')
      if (on) client.resume()
      else client.pause()
    },
  }
}

function notesOf(doc: Doc): SharedText {
  const notes = doc.text('notes')
  return {
    read: () => notes.toString(),
    change: changes => doc.edit(types => makeChanges(types.text('notes'), changes)),
    onRemote: listener =>
      notes.onDelta((delta, { local }) => {
        if (!local) listener(delta.map(step))
      }),
  }
}

function step(operation: DeltaOperation): DeltaStep {
  if (!('insert' in operation)) return operation
  // The page makes text only; what another program embeds takes one place.
  return { insert: typeof operation.insert === 'string' ? operation.insert : '\ufffc' }
}

/** A text while it is edited. */
interface EditedText {
  insert(index: number, text: string): void
  delete(index: number, length: number): void
}

function makeChanges(target: EditedText, changes: readonly Change[]): void {
  for (const { at, deleted, inserted } of changes) {
    if (deleted > 0) target.delete(at, deleted)
    if (inserted !== '') target.insert(at, inserted)
  }
}

function tasksOf(doc: Doc): Tasks {
  /** Does something to the task of this id, wherever in the list it is now; nothing if somebody has deleted it. */
  const find = (id: string, act: (index: number) => void) => {
    const index = readTasks(doc.value).findIndex(task => task.id === id)
    if (index >= 0) act(index)
  }
  doc.list('tasks')
  return {
    read: () => readTasks(doc.value),
    onChange: listener =>
      doc.watch(
        value => value.tasks,
        () => listener(readTasks(doc.value)),
      ),
    add(title) {
      const task = map({ id: crypto.randomUUID(), title: text(title), done: false })
      doc.edit(types => types.list('tasks').push(task))
    },
    title: id => titleOf(doc, id, find),
    setDone: (id, done) =>
      find(id, index => doc.edit(types => types.list('tasks').map(index).set('done', done))),
    remove: id => find(id, index => doc.edit(types => types.list('tasks').delete(index))),
  }
}

/** The title of a task. Its place in the list changes, so what others did is seen by comparing. */
function titleOf(doc: Doc, id: string, find: (id: string, act: (index: number) => void) => void): SharedText {
  const read = () => readTasks(doc.value).find(task => task.id === id)?.title ?? ''
  let known = read()
  return {
    read() {
      known = read()
      return known
    },
    change(changes) {
      // First, because those who watch are told before `edit` is left.
      known = changes.reduce(applyChange, known)
      find(id, index => doc.edit(types => makeChanges(types.list('tasks').map(index).text('title'), changes)))
    },
    onRemote: listener =>
      doc.watch(read, title => {
        const change = changeBetween(known, title, title.length)
        known = title
        if (change !== undefined) listener(deltaOf(change))
      }),
  }
}

function deltaOf({ at, deleted, inserted }: Change): Delta {
  return [{ retain: at }, { delete: deleted }, { insert: inserted }]
}

/** The tasks in a document, as far as they can be understood: other programs may have written there too. */
function readTasks(value: DocValue): readonly Task[] {
  const { tasks } = value
  if (!Array.isArray(tasks)) return []
  return tasks.flatMap((task: unknown) => {
    if (typeof task !== 'object' || task === null) return []
    const { id, title, done } = task as Readonly<Record<string, unknown>>
    return typeof id === 'string' && typeof title === 'string' ? [{ id, title, done: done === true }] : []
  })
}

function statusOf(doc: Doc, isOn: () => boolean): Pick<Device, 'status' | 'onStatus'> {
  /** A relay that could not be reached is out of reach while it is tried again, or the words would flicker. */
  let isOutOfReach = false
  let hasTried = false
  const translate = ({ device, link, unsent, storage }: Status): DeviceStatus => {
    if (link === 'connecting') hasTried = true
    if (link === 'live' || !isOn()) isOutOfReach = false
    else if (link === 'offline' && hasTried) isOutOfReach = true
    return {
      storage: storage === 'memory' ? { kind: 'memory' } : storageStatus(device),
      link: isOn() ? linkStatus(link, isOutOfReach) : { kind: 'cut' },
      editsWaiting: unsent.edits,
    }
  }
  return {
    status: () => translate(doc.status),
    onStatus: listener => doc.onStatus(status => listener(translate(status))),
  }
}

function storageStatus(device: Status['device']): DeviceStatus['storage'] {
  return typeof device === 'string' ? { kind: device } : { kind: 'failed', code: device.failed }
}

function linkStatus(link: Status['link'], isOutOfReach: boolean): DeviceStatus['link'] {
  if (typeof link !== 'string') return { kind: 'refused', code: link.refused }
  if (link === 'live') return { kind: 'live' }
  return { kind: isOutOfReach ? 'offline' : 'connecting' }
}
