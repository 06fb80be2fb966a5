// The assigner that all members of our group use: partition N of all topics goes to one member, because one stream may
// lie in several topics, and members keep what they have. What each has travels with its request to join.
import kafkajs from 'kafkajs'
import type { PartitionAssigner } from 'kafkajs'
import { ulid } from 'ulid'
import { assign } from './kafka-partition.ts'

const { AssignerProtocol } = kafkajs
const { MemberAssignment, MemberMetadata } = AssignerProtocol
const version = 1

/**
 * `alone`: under a name that nobody else has, so that Kafka lets no second member into the group
 * (INCONSISTENT_GROUP_PROTOCOL), nor this one while there is another.
 */
export function togetherAssigner(owned: () => Iterable<number>, alone: boolean): PartitionAssigner {
  const name = alone ? `dpulse-alone-${ulid()}` : 'dpulse-together'
  return ({ cluster }) => ({
    name,
    version,
    protocol: ({ topics }) => ({
      name,
      metadata: MemberMetadata.encode({
        version,
        topics,
        userData: Buffer.from(JSON.stringify([...owned()])),
      }),
    }),
    async assign({ members, topics }) {
      const partitions = Math.min(...topics.map((topic) => cluster.findTopicPartitionMetadata(topic).length))
      const shares = assign(
        partitions,
        members.map(({ memberId, memberMetadata }) => ({ id: memberId, owned: ownedOf(memberMetadata) })),
      )
      return [...shares].map(([memberId, own]) => ({
        memberId,
        memberAssignment: MemberAssignment.encode({
          version,
          assignment: Object.fromEntries(topics.map((topic) => [topic, own])),
          userData: Buffer.alloc(0),
        }),
      }))
    },
  })
}

function ownedOf(metadata: Buffer): number[] {
  try {
    const list: unknown = JSON.parse(MemberMetadata.decode(metadata)?.userData.toString() ?? '[]')
    return Array.isArray(list) ? list.filter((one) => Number.isInteger(one)).map(Number) : []
  } catch {
    return []
  }
}
