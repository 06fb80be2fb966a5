// An authority and certificates that it signs, made with openssl in a folder of their own.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Files {
  cert: string
  key: string
}

export interface Authority {
  /** The authority's own certificate. */
  readonly ca: string
  readonly directory: string
  /** For a server on 127.0.0.1 and localhost, or a client of that name. */
  certificate(name: string): Files
  /** One that nobody signed. */
  selfSigned(name: string): Files
  remove(): void
}

const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

export function createAuthority(): Authority {
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-tls-'))
  const file = (name: string): string => join(directory, name)
  const openssl = (...given: string[]): void =>
    void execFileSync('openssl', given, { stdio: 'ignore', cwd: directory })
  const selfSigned = (name: string, cert = file(`${name}-own.pem`), key = file(`${name}-own.key`)): Files => {
    openssl('req', '-x509', ...curve, '-days', '1', '-subj', `/CN=${name}`, '-keyout', key, '-out', cert)
    return { cert, key }
  }
  selfSigned('authority', file('ca.pem'), file('ca.key'))
  return {
    ca: file('ca.pem'),
    directory,
    selfSigned: (name) => selfSigned(name),
    certificate(name) {
      const [cert, key, request] = [file(`${name}.pem`), file(`${name}.key`), file(`${name}.csr`)]
      const names = 'subjectAltName=IP:127.0.0.1,DNS:localhost'
      openssl('req', ...curve, '-subj', `/CN=${name}`, '-addext', names, '-keyout', key, '-out', request)
      const signer = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial']
      openssl(
        'x509',
        '-req',
        '-days',
        '1',
        '-in',
        request,
        ...signer,
        '-copy_extensions',
        'copy',
        '-out',
        cert,
      )
      return { cert, key }
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  }
}
