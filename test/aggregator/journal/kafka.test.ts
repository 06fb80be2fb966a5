import { conformsToJournal } from '../../support/journal.ts'
import { kafkaPlace, noKafka, openTestKafka } from '../../support/kafka.ts'

conformsToJournal(
  'Kafka',
  async () => {
    const place = kafkaPlace()
    return { open: () => openTestKafka(place) }
  },
  { missing: noKafka, runs: 4 },
)
