import { describe, expect, test } from 'vitest'
import { Logger } from '../../collector/logger.ts'
import { RetryableError, Secret } from '../../plugins/contract/index.ts'

function logged(isText: boolean) {
  const lines: string[] = []
  const time = { ms: 1_790_000_000_000 }
  const logger = new Logger({
    write: (line) => lines.push(line),
    isText,
    level: 'info',
    nowMs: () => time.ms,
  })
  return { lines, time, logger, log: logger.for('syslog') }
}

describe('our own log', () => {
  test('is JSON with the facts as fields', () => {
    const { lines, log } = logged(false)
    log.info('listens', { port: 5514, bytes: 2n ** 60n })
    expect(JSON.parse(lines[0] ?? '')).toEqual({
      time: '2026-09-21T14:13:20.000Z',
      level: 'info',
      message: 'listens',
      component: 'syslog',
      port: 5514,
      bytes: '1152921504606846976',
    })
  })

  test('is text for people, on one line whatever is in it', () => {
    const { lines, log } = logged(true)
    log.warn('refused', { peer: 'a\nb' })
    expect(lines).toEqual(['14:13:20.000 warn  refused component="syslog" peer="a\\nb"\n'])
  })

  test('folds what repeats, and tells after a minute how often it came', () => {
    const { lines, log, time } = logged(false)
    for (let times = 0; times < 100; times++)
      log.warn('export failed', { error: new RetryableError('PEER_TIMEOUT', `${times}`) })
    expect(lines).toHaveLength(1)
    time.ms += 60_000
    log.warn('export failed', { error: new RetryableError('PEER_TIMEOUT', 'again') })
    expect(JSON.parse(lines[1] ?? '')).toMatchObject({ repeated: 100, error: 'again' })
  })

  test('tells at the end what is still folded', () => {
    const { lines, log, logger } = logged(false)
    log.error('lost', {})
    log.error('lost', {})
    logger.flush()
    expect(JSON.parse(lines[1] ?? '')).toMatchObject({ message: 'lost', repeated: 1 })
  })

  test('shows no secret, and no more than 4,096 characters of a field', () => {
    const { lines, log } = logged(false)
    log.info('logs in', {
      password: new Secret('env X', () => 'hunter2'),
      deep: { inner: new Secret('env X', () => 'hunter2') },
      long: 'x'.repeat(10_000),
    })
    expect(lines[0]).not.toContain('hunter2')
    expect(lines[0]).toContain('[redacted]')
    expect(lines[0]?.length).toBeLessThan(4500)
  })
})
