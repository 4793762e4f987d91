// Bundles GraphiQL into nexus_graph/api/graphql/transport/graphiql: content-hashed scripts and styles, each gzipped, the page that
// names them, and the licences of what is in them.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const TARGET = join(import.meta.dirname, '../../nexus_graph/api/graphql/transport/graphiql')

// graphiql/style.css holds Monaco's styles already.
const withoutMonacoStyles = {
  name: 'without-monaco-styles',
  setup: ({ onLoad }) => onLoad({ filter: /monaco-editor.*\.css$/ }, () => ({ contents: '' })),
}

const bundle = (entryPoints, options) =>
  build({
    entryPoints,
    absWorkingDir: import.meta.dirname,
    outdir: TARGET,
    entryNames: '[name]-[hash]',
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    jsx: 'automatic',
    target: 'es2022',
    legalComments: 'eof',
    plugins: [withoutMonacoStyles],
    ...options,
    define: { 'process.env.NODE_ENV': '"production"', ...options.define },
  })

const nameOf = ({ outputFiles }, pattern) => basename(outputFiles.find(({ path }) => pattern.test(path)).path)

const workers = await bundle(
  [
    { in: 'monaco-editor/esm/vs/editor/editor.worker.js', out: 'editor' },
    { in: 'monaco-editor/esm/vs/language/json/json.worker.js', out: 'json' },
    { in: 'monaco-graphql/esm/graphql.worker.js', out: 'graphql' },
  ],
  { format: 'iife' },
)
const workerNames = Object.fromEntries(
  ['editor', 'json', 'graphql'].map((label) => [label, nameOf(workers, new RegExp(`/${label}-`))]),
)
const page = await bundle(['page.jsx'], {
  format: 'esm',
  define: { WORKERS: JSON.stringify(workerNames) },
})

rmSync(TARGET, { recursive: true, force: true })
mkdirSync(TARGET)
for (const { path, contents } of [...workers.outputFiles, ...page.outputFiles]) {
  writeFileSync(`${path}.gz`, gzipSync(contents, { level: 9 }))
}
const html = readFileSync(join(import.meta.dirname, 'page.html'), 'utf8')
  .replace('SOURCES', digest())
  .replace('page.css', nameOf(page, /\.css$/))
  .replace('page.js', nameOf(page, /\.js$/))
writeFileSync(join(TARGET, 'page.html'), html)
writeFileSync(join(TARGET, 'LICENCES.txt'), licences([workers, page]))

// What the bundle was built from, so that a test can tell when it is out of date.
function digest() {
  const names = readdirSync(import.meta.dirname).filter((name) => /^[a-z].*\.(js|jsx|json|css|html)$/.test(name))
  const hash = createHash('sha256')
  for (const name of names.sort()) hash.update(readFileSync(join(import.meta.dirname, name)))
  return hash.digest('hex')
}

// Every package by name and version, and each text once.
function licences(bundles) {
  const inputs = bundles.flatMap(({ metafile }) => Object.keys(metafile.inputs))
  const folders = inputs.map((path) => path.match(/^.*node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0]).filter(Boolean)
  const packagesOf = {}
  for (const folder of [...new Set(folders)].sort()) {
    const { title, text } = licence(join(import.meta.dirname, folder))
    ;(packagesOf[text] ??= []).push(title)
  }
  const sections = Object.entries(packagesOf).map(([text, titles]) => `${titles.join('\n')}\n\n${text}\n`)
  return sections.join(`\n${'-'.repeat(80)}\n\n`)
}

function licence(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const file = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file))
  const text = file ? readFileSync(join(folder, file), 'utf8').trim() : `${license}: the package holds no text of it.`
  return { title: `${name} ${version} (${license})`, text }
}
