// The ten-line example: what an application's bundle weighs with the package in it.
import { list, map, open, schema, text } from 'tidewell'

const Shop = schema({ version: 1, doc: { notes: text(), todos: list(map({ title: text(), done: 'boolean' })) } })

const client = await open({ url: 'ws://localhost:7700', store: 'shop' })
const doc = await client.doc('acme/list/42', Shop)
doc.watch(value => value.todos.length, count => console.log(count))
doc.edit(draft => draft.todos.push({ title: 'milk', done: false }))
await doc.saved('relay')
