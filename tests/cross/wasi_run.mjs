// SPDX-License-Identifier: MIT
// Runs a WebAssembly program under node's WASI:   node --no-warnings wasi_run.mjs PROGRAM.wasm [ARGUMENT...]
import { readFileSync } from 'node:fs';
import { WASI } from 'node:wasi';

const args = process.argv.slice(2);
const wasi = new WASI({ version: 'preview1', returnOnExit: true, args, env: process.env });
const module = new WebAssembly.Module(readFileSync(args[0]));
const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi.wasiImport });
process.exitCode = wasi.start(instance);
