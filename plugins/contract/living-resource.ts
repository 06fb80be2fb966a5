// Resources that stay true: a source may keep the bytes of its Resource for as long as it runs, and the labels of the
// machine may change meanwhile. Who made the bytes says what stands for them now, and encoders ask when they begin.

const successors = new WeakMap<Uint8Array, () => Uint8Array>()

/** From now on `current` answers for these bytes. */
export const livesOn = (resource: Uint8Array, current: () => Uint8Array): void =>
  void successors.set(resource, current)

export const currentResource = (resource: Uint8Array): Uint8Array => successors.get(resource)?.() ?? resource
