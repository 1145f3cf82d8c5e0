// The slim entry, to be bundled: the module must not come along.

import { wasmVersion } from 'tidewell/slim'

globalThis.tidewellVersion = wasmVersion
