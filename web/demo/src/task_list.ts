// The list of tasks of one device.

import type { Task, Tasks } from './device.js'
import { element } from './element.js'
import { bindTextField } from './text_field.js'

/** Shows the tasks and a field for the next one. `title` heads the list. */
export function taskList(tasks: Tasks, id: string): HTMLElement {
  const rows = new Map<string, Row>()
  const list = element('ul', { class: 'tasks' })
  const count = element('span', { class: 'count' })
  const field = element('input', {
    id: `${id}-add`,
    type: 'text',
    placeholder: 'Add a task',
    'aria-label': 'New task',
    autocomplete: 'off',
    enterkeyhint: 'done',
  })
  const form = element('form', { class: 'add' }, field, element('button', { type: 'submit' }, 'Add'))
  form.addEventListener('submit', event => {
    event.preventDefault()
    const title = field.value.trim()
    if (title === '') return
    field.value = ''
    tasks.add(title)
  })

  const show = (shown: readonly Task[]) => {
    const hadFocus = list.contains(document.activeElement)
    const there = new Set(shown.map(task => task.id))
    const focused = [...rows.values()].findIndex(row => row.element.contains(document.activeElement))
    for (const [taskId, row] of rows) {
      if (there.has(taskId)) continue
      row.stop()
      row.element.remove()
      rows.delete(taskId)
    }
    shown.forEach((task, index) => {
      const row = rows.get(task.id) ?? makeRow(task.id, tasks)
      rows.set(task.id, row)
      row.show(task)
      // Only rows in a wrong place are moved: moving one takes the focus from it.
      if (list.children[index] !== row.element) list.insertBefore(row.element, list.children[index] ?? null)
    })
    // The row that somebody stood in is gone: without this the focus would be nowhere.
    if (hadFocus && !list.contains(document.activeElement)) {
      const next = list.children[Math.min(focused, list.children.length - 1)]
      const target = next?.querySelector<HTMLElement>('.remove') ?? field
      target.focus()
    }
    const open = shown.filter(task => !task.done).length
    count.textContent = shown.length === 0 ? '' : `${open} of ${shown.length} open`
    list.hidden = shown.length === 0
  }
  show(tasks.read())
  tasks.onChange(show)

  list.addEventListener('keydown', event => moveBetweenRows(list, event))
  const heading = element('h3', { id: `${id}-tasks` }, 'Tasks')
  return element(
    'section',
    { 'aria-labelledby': heading.id },
    element('div', { class: 'section-head' }, heading, count),
    list,
    form,
  )
}

interface Row {
  readonly element: HTMLLIElement
  show(task: Task): void
  stop(): void
}

function makeRow(id: string, tasks: Tasks): Row {
  const done = element('input', { type: 'checkbox' })
  const title = element('input', { type: 'text', class: 'title', 'aria-label': 'Title', autocomplete: 'off' })
  const remove = element('button', { type: 'button', class: 'remove' }, '\u00d7')
  const row = element('li', {}, done, title, remove)

  done.addEventListener('change', () => tasks.setDone(id, done.checked))
  remove.addEventListener('click', () => tasks.remove(id))
  const stop = bindTextField(title, tasks.title(id))
  return {
    element: row,
    show(task) {
      row.classList.toggle('done', task.done)
      done.checked = task.done
      done.setAttribute('aria-label', `Done: ${task.title}`)
      remove.setAttribute('aria-label', `Delete: ${task.title}`)
      remove.title = 'Delete'
    },
    stop,
  }
}

/** Up and down go from title to title. */
function moveBetweenRows(list: HTMLElement, event: KeyboardEvent): void {
  if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return
  if (event.isComposing || !(event.target instanceof HTMLInputElement) || event.target.type !== 'text') return
  const titles = [...list.querySelectorAll<HTMLInputElement>('.title')]
  const next = titles[titles.indexOf(event.target) + (event.key === 'ArrowDown' ? 1 : -1)]
  if (next === undefined) return
  event.preventDefault()
  next.focus()
}
