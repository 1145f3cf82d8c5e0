// A text field that shows a shared text: what is typed goes into the text, what others write appears around the caret.

import type { SharedText } from './device.js'
import {
  applyDelta,
  type Change,
  changeAfter,
  changeBetween,
  type Delta,
  shiftPosition,
} from './text_change.js'

/** A field that has a caret. */
export type Field = HTMLTextAreaElement | HTMLInputElement

/** Binds a field to a shared text; yields the way to end it. */
export function bindTextField(field: Field, text: SharedText): () => void {
  /** What the field showed when it and the text were last compared; the text itself is this and then `held`. */
  let shown = shownAs(text.read())
  /** What others did while an input method was composing: touching the field would end the composition. */
  let held: Delta[] = []
  let composing = false
  field.value = shown

  const takeInput = () => {
    // Nothing is sent that would have to be placed among what is not shown yet, until the composition has ended.
    if (composing && held.length > 0) return
    const change = changeBetween(shown, field.value, field.selectionEnd ?? field.value.length)
    if (change === undefined) return
    shown = field.value
    text.change([change])
  }

  const endComposition = () => {
    composing = false
    if (held.length === 0) return takeInput()
    const caret = field.selectionEnd ?? field.value.length
    const change = changeBetween(shown, field.value, caret)
    const place = (position: number) => placeAfter(position, change, held)
    const [start, end] = [place(field.selectionStart ?? caret), place(caret)]
    const changes = change === undefined ? [] : changeAfter(change, held)
    if (changes.length > 0) text.change(changes)
    held = []
    show(shownAs(text.read()), start, end)
  }

  const takeRemote = (delta: Delta) => {
    if (composing) {
      held.push(delta)
      return
    }
    show(
      shownAs(applyDelta(shown, delta)),
      shiftPosition(field.selectionStart ?? 0, delta),
      shiftPosition(field.selectionEnd ?? 0, delta),
    )
  }

  /**
   * Shows a text. A field that is given a value puts the caret at its end, so the selection is set; it also forgets what
   * it could undo, which by then would be other people's work.
   */
  const show = (value: string, start: number, end: number) => {
    shown = value
    const { scrollTop, selectionDirection } = field
    field.value = value
    field.setSelectionRange(start, end, selectionDirection ?? 'none')
    field.scrollTop = scrollTop
  }

  const stop = new AbortController()
  const listen = { signal: stop.signal }
  field.addEventListener(
    'compositionstart',
    () => {
      composing = true
    },
    listen,
  )
  field.addEventListener('compositionend', endComposition, listen)
  field.addEventListener('input', takeInput, listen)
  const stopRemote = text.onRemote(takeRemote)
  return () => {
    stop.abort()
    stopRemote()
  }
}

/** Where a position of the field is once both the composed change and what others did are in the text. */
function placeAfter(position: number, change: Change | undefined, held: readonly Delta[]): number {
  const shift = (old: number) => held.reduce(shiftPosition, old)
  if (change === undefined || position <= change.at) return shift(position)
  const inside = position - change.at
  if (inside <= change.inserted.length) return shift(change.at) + inside
  const gone = changeAfter({ ...change, inserted: '' }, held).reduce((sum, { deleted }) => sum + deleted, 0)
  return shift(position - change.inserted.length + change.deleted) - gone + change.inserted.length
}

/** Fields turn carriage returns into line feeds, two characters into one: then positions would no longer agree. */
function shownAs(text: string): string {
  return text.replaceAll('\r', '\u240d')
}
