import type { DescFile, DescService } from '@bufbuild/protobuf';
import { toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { ReflectionService } from '@grpc/reflection';
import { asBuffer } from '../wire/bytes.ts';
import type { Service } from './server.ts';

/**
 * `grpc.reflection.v1.ServerReflection` and its `v1alpha` (https://grpc.io/docs/guides/reflection/), by
 * which tools such as grpcurl find out what this server speaks.
 */
export function reflection(services: readonly DescService[]): Service[] {
  const files = new Set<DescFile>();
  for (const { file } of services) collect(file, files);
  const fileDescriptorProtos = [...files].map(({ proto }) =>
    asBuffer(toBinary(FileDescriptorProtoSchema, proto)),
  );
  // It takes what @grpc/proto-loader makes, and of that reads the file descriptors only.
  const loaded = { all: { fileDescriptorProtos } } as unknown as ConstructorParameters<
    typeof ReflectionService
  >[0];
  const added: Service[] = [];
  new ReflectionService(loaded).addToServer({
    addService: (definition, implementation) => added.push({ definition, implementation }),
  });
  return added;
}

function collect(file: DescFile, into: Set<DescFile>): void {
  if (into.has(file)) return;
  into.add(file);
  for (const dependency of file.dependencies) collect(dependency, into);
}
