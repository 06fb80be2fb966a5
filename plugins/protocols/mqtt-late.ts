// Messages of QoS 1 that are answered late: the library answers one at a time and reads none meanwhile, so a message whose
// records take a while to be safe would hold up all others. Here it takes them for QoS 0, and we send the PUBACKs.
import type { MqttClient } from 'mqtt'

/** Gives each message to `take`, several at once; answers those whose promise resolved, in the order in which they came. */
export function answerLate(
  client: MqttClient,
  atOnce: number,
  take: (topic: string, payload: Uint8Array | string, retained: boolean) => Promise<void> | undefined,
): void {
  const ids = new WeakMap<object, number>()
  const queue: { id: number | undefined; state: 'waits' | 'safe' | 'failed' }[] = []
  let resume: (() => void) | undefined
  client.on('packetreceive', (packet) => {
    if (packet.cmd !== 'publish' || packet.qos !== 1 || packet.messageId === undefined) return
    ids.set(packet, packet.messageId)
    packet.qos = 0
  })
  /** MQTT demands answers in order; those behind one that failed come again with it. */
  const answer = (): void => {
    while (queue[0]?.state === 'safe') {
      const id = queue.shift()?.id
      if (id !== undefined && client.connected) client.stream.write(Buffer.of(0x40, 2, id >> 8, id & 0xff))
    }
  }
  client.handleMessage = (packet, done) => {
    const entry: (typeof queue)[number] = { id: ids.get(packet), state: 'waits' }
    queue.push(entry)
    const ended = (state: 'safe' | 'failed'): void => {
      entry.state = state
      // The broker sends it again, and what came behind it, once we are back.
      if (state === 'failed') client.stream.destroy()
      answer()
      if (queue.length >= atOnce) return
      resume?.()
      resume = undefined
    }
    const busy = take(packet.topic, packet.payload, packet.retain)
    if (busy) {
      busy.then(
        () => ended('safe'),
        () => ended('failed'),
      )
    } else ended('safe')
    if (queue.length < atOnce) done()
    else resume = done
  }
}
