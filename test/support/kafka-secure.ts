// A Kafka of one broker that is spoken to over TLS and with a login only: the program that ../shared/services installs,
// with a configuration of the test's own.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import type { Files } from './certificates.ts'
import { eventually } from './programs.ts'

const classes = join(
  process.env.DPULSE_SERVICES ??
    join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'dpulse-services'),
  'kafka-4.1.1',
)
export const noSecureKafka = existsSync(join(classes, '.complete'))
  ? undefined
  : '../shared/services has installed no Kafka here'

export interface SecureKafka {
  /** Speaks SASL_SSL: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. */
  readonly address: string
  stop(): Promise<void>
}

/** The user has the same password whatever the mechanism. */
export async function startSecureKafka(options: {
  files: Files
  /** Of the authority that signs clients; a certificate may be shown. */
  ca: string
  user: { name: string; password: string }
}): Promise<SecureKafka> {
  const { files, ca, user } = options
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-secure-kafka-'))
  const [port, controller] = [await freePort(), await freePort()]
  const keys = join(directory, 'keys.pem')
  writeFileSync(keys, readFileSync(files.key, 'utf8') + readFileSync(files.cert, 'utf8'))
  const configuration = join(directory, 'server.properties')
  const login = 'org.apache.kafka.common.security'
  writeFileSync(
    configuration,
    `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controller}
listeners=SASL_SSL://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}
advertised.listeners=SASL_SSL://127.0.0.1:${port}
listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=SASL_SSL
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=${login}.plain.PlainLoginModule required username="${user.name}" password="${user.password}" user_${user.name}="${user.password}";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=${login}.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=${login}.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location=${keys}
ssl.truststore.type=PEM
ssl.truststore.location=${ca}
ssl.client.auth=requested
log.dirs=${join(directory, 'data')}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
`,
  )
  const java = ['-Xmx256m', '-XX:+UseSerialGC', '-cp', join(classes, '*')]
  const scram = ['256', '512'].flatMap((bits) => [
    '--add-scram',
    `SCRAM-SHA-${bits}=[name=${user.name},password=${user.password}]`,
  ])
  const format = ['format', '-t', 'ZHB1bHNlLXRlc3Qta2Fma2', '-c', configuration, ...scram]
  const formatted = spawnSync('java', [...java, 'kafka.tools.StorageTool', ...format], { encoding: 'utf8' })
  if (formatted.status !== 0) throw new Error(`Kafka has no storage: ${formatted.stderr}`)
  const child = spawn('java', [...java, 'kafka.Kafka', configuration], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8')
    stream.on('data', (text: string) => (output = (output + text).slice(-32_000)))
  }
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    }
    rmSync(directory, { recursive: true, force: true })
  }
  try {
    await eventually('Kafka listens', 90, async () => {
      if (child.exitCode !== null) throw new Error(`it ended: ${output}`)
      const socket = connect(port, '127.0.0.1')
      try {
        await once(socket, 'connect')
        return true
      } finally {
        socket.destroy()
      }
    })
  } catch (error) {
    await stop()
    throw error
  }
  return { address: `127.0.0.1:${port}`, stop }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
