import { create } from '@bufbuild/protobuf';
import type { Broker } from '../broker/broker.ts';
import { message } from '../broker/question.ts';
import type { BrokerAnswer, BrokersQuestion } from '../broker/router.ts';
import type { Member } from '../cluster/cluster.ts';
import type { BrokerView, DescribeClusterRequest } from '../wire/gen/agenthub/v1/broker_pb.ts';
import { BrokerViewSchema, DescribeClusterRequestSchema } from '../wire/gen/agenthub/v1/broker_pb.ts';
import type { BrokerFacts } from './status.ts';

/** A broker that does not answer within this time is shown by what is known of it, in milliseconds. */
const TIMEOUT_MS = 1000;

/** The brokers of the cluster, as they describe themselves. */
export class MemberViews {
  private readonly broker: Broker;
  private readonly question: BrokersQuestion<DescribeClusterRequest, BrokerView>;

  constructor(broker: Broker, describe: () => BrokerFacts) {
    this.broker = broker;
    this.question = broker.router.toBrokers(
      {
        name: 'DescribeBroker',
        request: message(DescribeClusterRequestSchema),
        response: message(BrokerViewSchema),
      },
      (_request, done) => done(undefined, create(BrokerViewSchema, describe())),
    );
  }

  /** All of them, in the order of their ids. */
  async views(): Promise<BrokerView[]> {
    const request = create(DescribeClusterRequestSchema);
    const answers = await new Promise<readonly BrokerAnswer<BrokerView>[]>((resolve) =>
      this.question.ofEach(request, TIMEOUT_MS, resolve),
    );
    const said = new Map(answers.map(({ broker, response }) => [broker, response]));
    return this.broker.cluster.members().map((member) => this.viewOf(member, said.get(member.id)));
  }

  /** Where they are, without what others have them do. */
  addresses(): BrokerView[] {
    return this.broker.cluster
      .members()
      .map(({ id, address, version, level, draining }) =>
        create(BrokerViewSchema, { id, address, version, level, draining }),
      );
  }

  private viewOf(member: Member, said: BrokerView | undefined): BrokerView {
    const { cluster, shards } = this.broker;
    const { id, address, version, level, joinedAt, draining, pool } = member;
    const vitals = cluster.vitals(id);
    let served = 0;
    for (let shard = 0; shard < shards.count; shard++) if (cluster.claim(shard)?.broker === id) served++;
    const known = {
      id,
      version,
      level,
      shards: served,
      sessions: vitals?.sessions ?? 0,
      agents: vitals?.agents ?? 0,
      tasksPerSecond: vitals?.tasksPerSecond ?? 0,
      load: vitals?.loadScore ?? 0,
      draining,
      startedAtMs: BigInt(Math.floor(joinedAt)),
    };
    return create(BrokerViewSchema, { ...(said ?? known), address, pool });
  }
}
