// The aggregator's way in as a process of its own, to be killed by tests: `node intake-program.ts DIRECTORY PORT`.
// Prints its port when it listens.
import process from 'node:process'
import { openIntake } from './intake.ts'

const [directory = '', port = '0'] = process.argv.slice(2)
const intake = await openIntake({ directory, port: Number(port) })
process.stdout.write(`${intake.broker.port}\n`)
