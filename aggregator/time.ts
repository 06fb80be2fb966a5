// Unix nanoseconds as people and JSON see them.
export { formatTime } from '../plugins/protocols/log-json.ts'
