# Broker, command line and operator in one image:
#   docker build -t agenthub .
#   docker run -p 50051:50051 -e AGENTHUB_GRPC_HOST=0.0.0.0 -e AGENTHUB_AUTH_TOKENS=<token> agenthub
# The operator is `node dist/operator/main.js`. Tests on Kubernetes use an image that is made otherwise, by
# test/support/kube/images.ts; test/unit/dockerfile.test.ts compares how the two start.

FROM node:24-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
# Without scripts: the only one, of the package `node`, brings a Node for development.
RUN npm install --no-save --ignore-scripts --no-audit --no-fund
COPY tsconfig*.json ./
COPY src ./src
COPY operator ./operator
RUN npm run build && npx tsc -p tsconfig.operator.json && chmod +x dist/cli/main.js && npm prune --omit=dev --ignore-scripts

FROM node:24-slim
ENV NODE_ENV=production
# What a broker keeps without being told where; mount a volume here.
RUN install -d -o 65532 -g 65532 /var/lib/agenthub && ln -s /app/dist/cli/main.js /usr/local/bin/agenthub
ENV AGENTHUB_DATA_DIR=/var/lib/agenthub
WORKDIR /app
COPY --from=build /build/package.json ./
COPY --from=build /build/node_modules ./node_modules
COPY --from=build /build/dist ./dist
USER 65532:65532
EXPOSE 50051 8080
# Kubernetes asks /healthz and /readyz itself.
HEALTHCHECK NONE
ENTRYPOINT ["node", "dist/cli/main.js"]
CMD ["serve"]
