type Method = (...args: never[]) => unknown;

/** Puts a class back as it was. */
export type Remove = () => void;

/**
 * Plants a bug: replaces a method of a class, or an accessor, by one that gets the object, the original and the
 * arguments. Nothing in `src` knows of it.
 */
export function replace<Self, Args extends unknown[] = unknown[]>(
  type: { readonly prototype: object },
  name: string,
  instead: (self: Self, original: (...args: unknown[]) => unknown, args: Args) => unknown,
): Remove {
  const { prototype } = type;
  const before = Object.getOwnPropertyDescriptor(prototype, name);
  if (!before) throw new Error(`there is no ${name} any more: plant the bug where it went`);
  const method = (before.get ?? before.value) as Method;
  const planted = function (this: Self, ...args: Args): unknown {
    return instead(this, (...given) => method.apply(this, given as never[]), args);
  };
  const after = before.get ? { ...before, get: planted } : { ...before, value: planted };
  Object.defineProperty(prototype, name, after);
  return () => {
    Object.defineProperty(prototype, name, before);
  };
}
