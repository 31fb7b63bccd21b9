/**
 * @file Certificates for one test: an authority, and what it signs (X.509 v3, RFC 5280; ECDSA on P-256 with SHA-256).
 * Made in memory with node's own keys, so that no tool is needed and no private key lies in the repository.
 */
import { generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'

/** PEM texts. */
export interface Certified {
  readonly certificate: string
  /** PKCS #8. */
  readonly key: string
}

export interface Authority extends Certified {
  /** A certificate for this name; `hosts`: what a server may be reached by, DNS names and IPv4 addresses. */
  issue(name: string, options?: { readonly hosts?: readonly string[] }): Certified
}

const tlv = (tag: number, ...content: readonly Uint8Array[]): Buffer => {
  const body = Buffer.concat(content)
  const length = body.length < 128 ? [body.length]
    : body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255]
  return Buffer.concat([Buffer.from([tag, ...length]), body])
}
const sequence = (...content: readonly Uint8Array[]): Buffer => tlv(0x30, ...content)
const oid = (...bytes: readonly number[]): Buffer => tlv(0x06, Buffer.from(bytes))
const bits = (bytes: Uint8Array): Buffer => tlv(0x03, Buffer.from([0]), bytes)

const ecdsaWithSha256 = sequence(oid(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02))
const nameOf = (common: string): Buffer => sequence(tlv(0x31, sequence(oid(0x55, 0x04, 0x03), tlv(0x0c, Buffer.from(common)))))

/** UTCTime, years 1950 to 2049. */
const time = (ms: number): Buffer => tlv(0x17, Buffer.from(`${new Date(ms).toISOString().replace(/[-:T]/g, '').slice(2, 14)}Z`))

const hostName = (host: string): Buffer => (/^[\d.]+$/.test(host)
  ? tlv(0x87, Buffer.from(host.split('.').map(Number)))
  : tlv(0x82, Buffer.from(host)))

const extensions = ({ authority, hosts }: { authority: boolean; hosts: readonly string[] }): Buffer => {
  const constraints = authority ? sequence(tlv(0x01, Buffer.from([0xff]))) : sequence()
  const list = [sequence(oid(0x55, 0x1d, 0x13), tlv(0x01, Buffer.from([0xff])), tlv(0x04, constraints))]
  if (hosts.length > 0) list.push(sequence(oid(0x55, 0x1d, 0x11), tlv(0x04, sequence(...hosts.map(hostName)))))
  return tlv(0xa3, sequence(...list))
}

const pem = (label: string, der: Buffer): string =>
  `-----BEGIN ${label}-----\n${der.toString('base64').replace(/.{1,64}/g, '$&\n')}-----END ${label}-----\n`

const hourMs = 3_600_000

const make = (
  subject: string,
  signer: { readonly name: string; readonly key: KeyObject } | undefined,
  hosts: readonly string[],
): { certified: Certified; key: KeyObject } => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const serial = Buffer.concat([Buffer.from([1]), randomBytes(8)]) // the leading 1: positive, and no leading zero
  const nowMs = Date.now()
  const body = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, serial),
    ecdsaWithSha256,
    nameOf(signer?.name ?? subject),
    sequence(time(nowMs - 24 * hourMs), time(nowMs + 24 * hourMs)),
    nameOf(subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    extensions({ authority: signer === undefined, hosts }),
  )
  const der = sequence(body, ecdsaWithSha256, bits(sign('sha256', body, signer?.key ?? privateKey)))
  return {
    certified: { certificate: pem('CERTIFICATE', der), key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() },
    key: privateKey,
  }
}

/** A new authority, good for a day. */
export const newAuthority = (name: string): Authority => {
  const { certified, key } = make(name, undefined, [])
  return { ...certified, issue: (subject, { hosts = [] } = {}) => make(subject, { name, key }, hosts).certified }
}
