// Images that clients push, plain or as multipart/form-data (RFC 7578): read as they come, of the file only its size and its
// first bytes are kept.
import type { IncomingMessage } from 'node:http'
import { isJson } from '../../plugins/protocols/redfish/json.ts'
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import { Refusal } from './messages.ts'
import type { Image } from './updates.ts'

export const mostImageBytes = 256 * 1024 * 1024
const mostParameterBytes = 64 * 1024
const mostHeaderBytes = 8 * 1024
const headBytes = 4096

export interface Upload {
  readonly image: Image
  /** UpdateParameters, where there are some. */
  readonly parameters: Json
}

/** The whole body is the image. */
export async function readImage(request: IncomingMessage): Promise<Upload> {
  const file = new Part('file', 'image')
  for await (const piece of request as AsyncIterable<Buffer>) file.add(piece)
  return { image: file.image(), parameters: {} }
}

/** @throws Refusal for what is no form, or a form without a file. */
export async function readForm(request: IncomingMessage): Promise<Upload> {
  const [, quoted, bare] =
    /^multipart\/form-data\b.*?\bboundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(
      request.headers['content-type'] ?? '',
    ) ?? []
  const boundary = quoted ?? bare
  if (boundary === undefined) throw new Refusal('UnrecognizedRequestBody')
  const form = new Form(boundary)
  for await (const piece of request as AsyncIterable<Buffer>) form.feed(piece)
  return form.finish()
}

class Part {
  readonly name: string
  readonly fileName: string
  readonly #head: Buffer[] = []
  #kept = 0
  #size = 0

  constructor(name: string, fileName: string) {
    this.name = name
    this.fileName = fileName
  }

  add(bytes: Buffer): void {
    this.#size += bytes.length
    const most = this.name === 'UpdateParameters' ? mostParameterBytes : mostImageBytes
    if (this.#size > most) throw new Refusal('PayloadTooLarge', [String(most)])
    const room = (this.name === 'UpdateParameters' ? mostParameterBytes : headBytes) - this.#kept
    if (room <= 0 || bytes.length === 0) return
    const some = Buffer.from(bytes.subarray(0, room))
    this.#head.push(some)
    this.#kept += some.length
  }

  get text(): string {
    return Buffer.concat(this.#head).toString('latin1')
  }

  image(): Image {
    return { name: this.fileName, size: this.#size, head: this.text }
  }
}

/** Looks for boundaries over the pieces of a body; what might begin one is held back. */
class Form {
  readonly #delimiter: Buffer
  #held: Buffer
  #state: 'before' | 'headers' | 'body' | 'after' = 'before'
  #part: Part | undefined
  #file: Part | undefined
  #parameters: Json = {}

  constructor(boundary: string) {
    this.#delimiter = Buffer.from(`\r\n--${boundary}`)
    // The first one may stand at the very beginning.
    this.#held = Buffer.from('\r\n')
  }

  feed(piece: Buffer): void {
    this.#held = Buffer.concat([this.#held, piece])
    while (this.#step());
  }

  finish(): Upload {
    if (this.#state !== 'after' || !this.#file) throw new Refusal('UnrecognizedRequestBody')
    return { image: this.#file.image(), parameters: this.#parameters }
  }

  /** Whether there may be more to do with what is held. */
  #step(): boolean {
    switch (this.#state) {
      case 'before':
      case 'body':
        return this.#toDelimiter()
      case 'headers':
        return this.#toBody()
      case 'after':
        this.#held = Buffer.alloc(0)
        return false
      default:
        return this.#state satisfies never
    }
  }

  #toDelimiter(): boolean {
    const at = this.#held.indexOf(this.#delimiter)
    if (at < 0) {
      const safe = Math.max(0, this.#held.length - this.#delimiter.length)
      this.#part?.add(this.#held.subarray(0, safe))
      this.#held = this.#held.subarray(safe)
      return false
    }
    const end = at + this.#delimiter.length
    if (this.#held.length < end + 2) return false
    this.#part?.add(this.#held.subarray(0, at))
    this.#close()
    this.#state = this.#held.toString('latin1', end, end + 2) === '--' ? 'after' : 'headers'
    this.#held = this.#held.subarray(end)
    return true
  }

  #toBody(): boolean {
    const at = this.#held.indexOf('\r\n\r\n')
    if (at > mostHeaderBytes || (at < 0 && this.#held.length > mostHeaderBytes))
      throw new Refusal('UnrecognizedRequestBody')
    if (at < 0) return false
    const headers = this.#held.toString('utf8', 0, at)
    const [, name = ''] = /\bname="([^"]*)"/i.exec(headers) ?? []
    const [, fileName = 'image'] = /\bfilename="([^"]*)"/i.exec(headers) ?? []
    this.#part = new Part(name, fileName.slice(0, 256))
    this.#held = this.#held.subarray(at + 4)
    this.#state = 'body'
    return true
  }

  #close(): void {
    const part = this.#part
    this.#part = undefined
    if (part?.name === 'UpdateFile') this.#file = part
    if (part?.name === 'UpdateParameters') this.#parameters = parsed(part.text)
  }
}

function parsed(text: string): Json {
  try {
    const value: unknown = JSON.parse(text)
    if (isJson(value)) return value
  } catch {
    // The same as what is no object.
  }
  throw new Refusal('MalformedJSON')
}
