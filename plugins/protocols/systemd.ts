// What systemd says of its units: `systemctl show` prints blocks of KEY=VALUE, one for each unit, an empty line between.
import { integer } from './proc.ts'

export const unitProperties = [
  'Id',
  'LoadState',
  'ActiveState',
  'SubState',
  'Result',
  'NRestarts',
  'ControlGroup',
  'MemoryCurrent',
  'TasksCurrent',
  'IOReadBytes',
  'IOWriteBytes',
] as const

export interface Unit {
  readonly id: string
  readonly isLoaded: boolean
  /** active, reloading, inactive, failed, activating, deactivating, maintenance, refreshing */
  readonly state: string
  readonly substate: string
  readonly result: string
  readonly restarts: bigint | undefined
  readonly group: string
  readonly memory: bigint | undefined
  readonly tasks: bigint | undefined
  readonly read: bigint | undefined
  readonly written: bigint | undefined
}

/** Numbers that are not accounted stand as `[not set]`, or as the largest of 64 bits. */
const unset = 2n ** 64n - 1n

export function parseUnits(text: string): Unit[] {
  return text.split(/\n\s*\n/).flatMap((block) => {
    const values = new Map(
      block.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    )
    const number = (key: string): bigint | undefined => {
      const value = integer(values.get(key))
      return value === unset ? undefined : value
    }
    const id = values.get('Id') ?? ''
    if (id === '') return []
    return [
      {
        id,
        isLoaded: values.get('LoadState') === 'loaded',
        state: values.get('ActiveState') ?? '',
        substate: values.get('SubState') ?? '',
        result: values.get('Result') ?? '',
        restarts: number('NRestarts'),
        group: values.get('ControlGroup') ?? '',
        memory: number('MemoryCurrent'),
        tasks: number('TasksCurrent'),
        read: number('IOReadBytes'),
        written: number('IOWriteBytes'),
      },
    ]
  })
}
