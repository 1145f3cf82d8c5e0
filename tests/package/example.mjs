// The README's ten lines: what an application's bundle weighs with the package in it.
import { open } from 'tidewell'

const client = await open({ url: 'ws://127.0.0.1:7700', store: 'notes' })
const doc = await client.doc('acme/welcome')
doc.watch(
  value => value.text,
  text => console.log(text),
)
doc.edit(d => {
  d.text('text').insert(0, 'Hello ')
  d.map('meta').set('title', 'First note')
  d.counter('opened').add(1)
})
await doc.saved('device')
await doc.saved('relay')
