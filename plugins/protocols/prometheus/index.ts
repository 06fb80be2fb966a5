// Prometheus' text formats: exposition to Records, and Records to exposition.
export { Exposition } from './expose.ts'
export { ExpositionRecords } from './records.ts'
export type { Taken } from './records.ts'
export { Scraper } from './scrape.ts'
export type { ScrapeOptions, Scraped } from './scrape.ts'
export { ExpositionReader } from './text.ts'
