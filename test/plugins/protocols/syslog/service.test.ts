import { expect, test } from 'vitest'
import { serviceOf } from '../../../../plugins/protocols/syslog/service.ts'

test.each([
  ['<134>1 2026-11-21T10:00:00Z dpu-7 flowd 100 ID1 - text', false, 'flowd'],
  ['<134>1 - - - - - - text', false, undefined],
  ['<13>Nov 21 10:00:00 dpu-7 sshd[412]: accepted', false, 'sshd'],
  ['<13>Nov 21 10:00:00 sshd[412]: accepted', true, 'sshd'],
  ['<13>Nov  1 10:00:00 dpu-7 kernel: link down', false, 'kernel'],
  ['<13>app: hello', false, 'app'],
  ['<134', false, undefined],
  ['', false, undefined],
])('%j of a sender that is local: %s comes from %s', (text, local, service) => {
  const bytes = Buffer.from(`xx${text}`)
  expect(serviceOf(bytes, 2, bytes.length, local)).toBe(service)
})
