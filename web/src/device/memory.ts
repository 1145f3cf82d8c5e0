// The store of a page that has none: the same rows, gone with the page. A module that failed starts anew from it.

import { newId } from '../new_id.js'
import type { Device } from './device.js'
import {
  type Change,
  type Cursor,
  inOrder,
  type OutboxRow,
  type ReceivedRow,
  rowName,
  type StoredBranch,
} from './store.js'
import type { WriterEvents } from './writer.js'

interface Rows {
  cursor: Cursor | undefined
  received: Map<string, ReceivedRow>
  outbox: Map<string, OutboxRow>
  branches: Map<string, StoredBranch>
}

/** A store in memory. */
export function memoryDevice(events: WriterEvents): Device {
  const documents = new Map<string, Rows>()

  function rows(document: string): Rows {
    const found = documents.get(document) ?? {
      cursor: undefined,
      received: new Map(),
      outbox: new Map(),
      branches: new Map(),
    }
    documents.set(document, found)
    return found
  }

  function make(change: Change): void {
    switch (change.kind) {
      case 'edit':
        rows(change.document).outbox.set(rowName(change.row), change.row)
        return
      case 'received':
        rows(change.key[0]).received.set(change.key.join('\n'), change)
        return
      case 'cursor':
        if (!change.goesOn || rows(change.document).cursor !== undefined)
          rows(change.document).cursor = change.cursor
        return
      case 'acknowledged': {
        const { outbox, received } = rows(change.document)
        for (const row of change.rows) {
          outbox.delete(rowName(row))
          const key = [change.document, change.epoch, change.sequence, rowName(row)] as const
          received.set(key.join('\n'), { key, updates: [row.update] })
        }
        return
      }
      case 'compacted': {
        const { received } = rows(change.key[0])
        for (const key of change.from) received.delete(key.join('\n'))
        received.set(change.key.join('\n'), { key: change.key, updates: [change.update] })
        return
      }
      case 'branched': {
        const found = rows(change.branch.document)
        const { outbox, branches } = found
        found.cursor = undefined
        for (const row of change.branch.rows) outbox.delete(rowName(row))
        const before = branches.get(change.branch.id)?.rows ?? []
        branches.set(change.branch.id, {
          ...change.branch,
          rows: inOrder([...before, ...change.branch.rows]),
        })
        return
      }
      case 'branch_ended': {
        const { document, id, rows: ended } = change.branch
        const { branches } = rows(document)
        const names = new Set(ended.map(rowName))
        const left = branches.get(id)?.rows.filter(row => !names.has(rowName(row))) ?? []
        if (left.length > 0) branches.set(id, { ...change.branch, rows: left })
        else branches.delete(id)
        return
      }
      case 'set_aside': {
        const found = rows(change.document)
        const { outbox, received } = found
        found.cursor = undefined
        if ('key' in change.row) received.delete(change.row.key.join('\n'))
        else outbox.delete(rowName(change.row))
        return
      }
      case 'device':
        return
    }
  }

  return {
    storage: 'memory',
    id: newId(),
    spendId: () => undefined,
    load(document) {
      const { cursor, received, outbox, branches } = rows(document)
      return Promise.resolve({
        cursor,
        received: [...received.values()],
        outbox: [...outbox.values()],
        branches: [...branches.values()],
      })
    },
    branches(document) {
      const asked = document === undefined ? documents.values() : [rows(document)]
      return Promise.resolve([...asked].flatMap(({ branches }) => [...branches.values()]))
    },
    outboxOpenings() {
      const left = [...documents].filter(([, { outbox }]) => outbox.size > 0)
      const openings = ({ outbox }: Rows) => new Set([...outbox.values()].map(row => row.opening))
      return Promise.resolve(new Map(left.map(([document, rows]) => [document, openings(rows)])))
    },
    push(changes) {
      changes.forEach(make)
      events.written(changes)
    },
    flush: () => Promise.resolve(),
    unsaved: () => [],
    leaving: () => [],
    state: () => ({ failed: 'device_unavailable' }),
    persistent: () => false,
    close: () => Promise.resolve(),
  }
}
