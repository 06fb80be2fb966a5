// Addresses as C lays them out, against what Node's own sockets say of them.
import { SocketAddress } from 'node:net'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { hostText, inetAddress } from '../../../../plugins/protocols/native/index.ts'

test('an IPv4 address is read back as it was written', () => {
  fc.assert(
    fc.property(fc.ipV4(), fc.integer({ min: 0, max: 65_535 }), (host, port) => {
      const bytes = inetAddress(host, port)
      expect(bytes?.readUInt16BE(2)).toBe(port)
      expect(hostText(2, bytes?.subarray(4) ?? Buffer.alloc(4))).toBe(host)
    }),
  )
})

test('an IPv6 address is read back in its canonical form', () => {
  fc.assert(
    fc.property(fc.ipV6(), (host) => {
      const bytes = inetAddress(host, 514)?.subarray(8, 24) ?? Buffer.alloc(0)
      const canonical = new SocketAddress({ address: host, family: 'ipv6' }).address
      // The system writes some addresses with an IPv4 tail; both forms are the same bytes.
      const text = hostText(10, bytes)
      const again = text.includes(':') ? text : `::ffff:${text}`
      expect(inetAddress(again, 514)?.subarray(8, 24)).toEqual(bytes)
      if (!canonical.includes('.')) expect(text).toBe(canonical)
    }),
  )
})

test('what is no address is none', () => {
  for (const host of ['localhost', '1.2.3', '1.2.3.256', ':::', ''])
    expect(inetAddress(host, 1)).toBeUndefined()
})
