// Addresses of MQTT brokers, as configurations name them.
import { PermanentError } from '../contract/errors.ts'

/** @throws PermanentError CONFIG_INVALID where it is no URL of a broker. */
export function parseBrokerUrl(url: string): { protocol: 'mqtt' | 'mqtts'; host: string; port: number } {
  const found = /^(mqtts?):\/\/(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([^:/[\]@\s]+))(?::(\d{1,5}))?\/?$/.exec(
    url,
  )
  const protocol = found?.[1] === 'mqtts' ? 'mqtts' : 'mqtt'
  const port = Number(found?.[4] ?? (protocol === 'mqtts' ? 8883 : 1883))
  if (!found || port < 1 || port > 65_535) {
    throw new PermanentError(
      'CONFIG_INVALID',
      `${url} is no broker: expected mqtt://host:port or mqtts://host:port`,
    )
  }
  return { protocol, host: found[2] ?? found[3] ?? '', port }
}

export function isBrokerUrl(url: string): boolean {
  try {
    return parseBrokerUrl(url).host !== ''
  } catch {
    return false
  }
}
