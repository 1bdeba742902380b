import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { arch } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };
const LAYER = 'application/vnd.oci.image.layer.v1.tar';
const CONFIG = 'application/vnd.oci.image.config.v1+json';
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

/** How containers of an image start: `config` of the OCI image specification. */
export interface ImageConfig {
  readonly Entrypoint: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Env?: readonly string[];
  readonly User?: string;
  readonly WorkingDir?: string;
}

interface Blob {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/**
 * Writes the image `name` as an OCI archive, from folders whose content becomes its layers, in order.
 * Everything in it belongs to root. The same content gives the same digests; `path` appears at once.
 */
export async function writeImage(
  path: string,
  name: string,
  layers: readonly string[],
  config: ImageConfig,
): Promise<void> {
  const dir = `${path}.dir`;
  rmSync(dir, { recursive: true, force: true });
  try {
    const blobs = join(dir, 'blobs/sha256');
    mkdirSync(blobs, { recursive: true });
    const written: Blob[] = [];
    for (const layer of layers) written.push(await layerOf(layer, blobs));
    const configured = documentOf(blobs, CONFIG, {
      architecture: ARCHITECTURES[arch()],
      os: 'linux',
      config,
      rootfs: { type: 'layers', diff_ids: written.map(({ digest }) => digest) },
    });
    const manifest = documentOf(blobs, MANIFEST, {
      schemaVersion: 2,
      mediaType: MANIFEST,
      config: configured,
      layers: written,
    });
    const annotations = { 'io.containerd.image.name': name };
    writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    writeFileSync(
      join(dir, 'index.json'),
      JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
    );
    const archive = `${path}.part`;
    execFileSync('tar', ['-C', dir, '-cf', archive, 'oci-layout', 'index.json', 'blobs']);
    renameSync(archive, path);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/**
 * Puts files and folders where they are in the image; what they link to, not the links. They become
 * hard links if the disk is the same: don't change them.
 */
export function place(layer: string, files: Readonly<Record<string, string>>): void {
  for (const [to, from] of Object.entries(files)) {
    const path = join(layer, to);
    mkdirSync(dirname(path), { recursive: true });
    const linked = spawnSync('cp', ['-rLl', from, path], { stdio: 'ignore' });
    if (linked.status !== 0) execFileSync('cp', ['-rLf', '--preserve=mode', from, path]);
  }
}

/** A program, and the libraries that the loader of this machine finds for it. */
export function placeProgram(layer: string, to: string, from: string): void {
  // A static one has none, which ldd calls a failure.
  const libraries = spawnSync('ldd', [from], { encoding: 'utf8' }).stdout.matchAll(/(\/\S+) \(0x/g);
  place(layer, { [to]: from, ...Object.fromEntries([...libraries].map(([, path = '']) => [path, path])) });
}

async function layerOf(folder: string, blobs: string): Promise<Blob> {
  const part = join(blobs, `${basename(folder)}.part`);
  const sameEverywhere = [
    '--hard-dereference',
    '--sort=name',
    '--mtime=@0',
    '--owner=0',
    '--group=0',
    '--numeric-owner',
  ];
  execFileSync('tar', ['-C', folder, ...sameEverywhere, '-cf', part, '.']);
  const hash = createHash('sha256');
  await pipeline(createReadStream(part), hash);
  const digest = hash.digest('hex');
  renameSync(part, join(blobs, digest));
  return { mediaType: LAYER, digest: `sha256:${digest}`, size: statSync(join(blobs, digest)).size };
}

function documentOf(blobs: string, mediaType: string, content: object): Blob {
  const bytes = Buffer.from(JSON.stringify(content));
  const digest = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(join(blobs, digest), bytes);
  return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
}
