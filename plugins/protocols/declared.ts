// The three kinds of metric as sources declare them, a line each. Their class follows from the name unless it is given.
import type { MetricDeclaration } from '../contract/index.ts'

type Declare = (unit: string, description: string, of?: MetricDeclaration['class']) => MetricDeclaration

const declares =
  (kind: MetricDeclaration['kind']): Declare =>
  (unit, description, of) => ({ kind, unit, description, ...(of !== undefined && { class: of }) })

/** A total that only grows. */
export const counter = declares('counter')
/** What is now, and has no sum over devices. */
export const gauge = declares('gauge')
/** What is now, and of which a sum over devices has a meaning. */
export const level = declares('updowncounter')
/** Of the environment, though no name of `hw.*` says so. */
export const own = (unit: string, description: string): MetricDeclaration =>
  gauge(unit, description, 'environment')
