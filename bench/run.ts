// `npm run bench NAME`: runs one benchmark; without a name it lists them.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import process from 'node:process'

const own = new Set(['run.ts'])
const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith('.ts') && !own.has(file))
  .map((file) => file.slice(0, -3))

const [name] = process.argv.slice(2)
if (name !== undefined && names.includes(name) && existsSync(`${import.meta.dirname}/${name}.ts`)) {
  // What follows the name are the benchmark's own options.
  process.argv.splice(2, 1)
  await import(`./${name}.ts`)
} else {
  if (name !== undefined) process.stderr.write(`there is no benchmark named ${name}\n`)
  process.stdout.write('npm run bench NAME, where NAME is one of\n')
  for (const each of names.toSorted()) {
    const [first = ''] = readFileSync(`${import.meta.dirname}/${each}.ts`, 'utf8').split('\n')
    process.stdout.write(`  ${each.padEnd(10)} ${first.replace(/^\/\/ ?/, '')}\n`)
  }
  process.exitCode = name === undefined ? 0 : 2
}
