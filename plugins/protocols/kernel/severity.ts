// Levels of syslog and the kernel as severities of OTel (log data model, appendix B).

const numbers = [21, 19, 18, 17, 13, 10, 9, 5]
const texts = ['emerg', 'alert', 'crit', 'err', 'warning', 'notice', 'info', 'debug']

export const severityOfLevel = (level: number): number => numbers[level] ?? 0
export const textOfLevel = (level: number): string => texts[level] ?? ''
