"""Two Python agents on AgentHub, with nothing but generated stubs.

    python -m venv .venv && .venv/bin/pip install -r examples/python/requirements.txt
    .venv/bin/python -m grpc_tools.protoc -I proto --python_out=examples/python --grpc_python_out=examples/python \
        proto/agenthub/v1/*.proto proto/eventbus/*.proto
    .venv/bin/python examples/python/agent.py localhost:50051

`event_bus` is the short way: publish, subscribe, answer. What was written to a subscriber counts as taken.
`native` is the sure way: a session, in which a task stays with its worker until that has settled it, and goes to
another one if the worker dies.
"""

import queue
import struct
import sys
import threading
import time
import uuid

import grpc
from google.protobuf import struct_pb2

from agenthub.v1 import broker_pb2_grpc, session_pb2, task_pb2
from eventbus import eventbus_pb2, eventbus_pb2_grpc

DEADLINE_S = 20


def event_bus(channel):
    """`shouter` turns text into upper case for `editor`."""
    bus = eventbus_pb2_grpc.EventBusStub(channel)

    def shouter():
        request = eventbus_pb2.SubscribeToTasksRequest(agent_id="shouter", task_types=["shout"])
        for task in bus.SubscribeToTasks(request, timeout=DEADLINE_S):
            answer = struct_pb2.Struct()
            answer.update({"text": task.parameters["text"].upper()})
            result = eventbus_pb2.TaskResult(
                task_id=task.task_id,
                status=eventbus_pb2.TASK_STATUS_COMPLETED,
                result=answer,
                executor_agent_id="shouter",
            )
            bus.PublishTaskResult(eventbus_pb2.PublishTaskResultRequest(result=result))
            return

    worker = threading.Thread(target=shouter, daemon=True)
    worker.start()

    task_id = f"shout-{uuid.uuid4()}"
    parameters = struct_pb2.Struct()
    parameters.update({"text": "hello from python"})
    task = eventbus_pb2.TaskMessage(
        task_id=task_id,
        task_type="shout",
        parameters=parameters,
        requester_agent_id="editor",
        responder_agent_id="shouter",
        priority=eventbus_pb2.PRIORITY_HIGH,
    )
    # Acknowledged means durable: if nobody has subscribed yet, the task waits.
    published = bus.PublishTask(eventbus_pb2.PublishTaskRequest(task=task), timeout=DEADLINE_S)
    assert published.success, published.error
    interest = eventbus_pb2.SubscribeToTaskResultsRequest(requester_agent_id="editor", task_ids=[task_id])
    for result in bus.SubscribeToTaskResults(interest, timeout=DEADLINE_S):
        worker.join()
        return result.result["text"]


class Session:
    """A session of the native service: frames out through a queue, frames in through handlers."""

    def __init__(self, channel, client):
        self._out = queue.Queue()
        self._held = set()
        self._number = 0
        self._heartbeat_s = 3.0
        self.on_task = lambda delivery: None
        self.on_result = lambda result: None
        self.on_accepted = lambda ack: None
        self.welcomed = threading.Event()
        # The first frame says hello. To resume after a broken connection: the session's id, a higher
        # incarnation, and the leases that are still held.
        self._say(hello=session_pb2.Hello(incarnation=1, client=client))
        self._stream = broker_pb2_grpc.BrokerStub(channel).Connect(self._frames())
        threading.Thread(target=self._listen, daemon=True).start()

    def attach(self, mailbox, window=10):
        """Subscribes to a mailbox; at most `window` tasks are here and unfinished at a time."""
        self._say(attach=[session_pb2.Attach(attachment=self._next(), mailbox=mailbox, window=window)])

    def publish(self, *tasks):
        """Publishes a batch; `on_accepted` hears when it is durable."""
        self._say(publish=[session_pb2.Publish(batch=self._next(), tasks=tasks)])

    def complete(self, delivery, payload=b"", content_type=""):
        """Ends a lease well."""
        completed = session_pb2.Completed(payload=payload, content_type=content_type)
        self._settle(session_pb2.Settlement(lease=delivery.lease, completed=completed))

    def fail(self, delivery, error, retryable=True):
        """Ends a lease: the task comes again later, or never."""
        failed = session_pb2.Failed(error=error, retryable=retryable)
        self._settle(session_pb2.Settlement(lease=delivery.lease, failed=failed))

    def close(self):
        """Ends the session for good: what it still holds goes to others."""
        self._say(goodbye=True)
        self._out.put(None)

    def _settle(self, settlement):
        self._held.discard(settlement.lease)
        self._say(settle=[session_pb2.Settle(batch=self._next(), settlements=[settlement])])

    def _next(self):
        self._number += 1
        return self._number

    def _say(self, **fields):
        self._out.put(session_pb2.ClientFrame(**fields))

    def _frames(self):
        """What gRPC sends: frames as they come, and a heartbeat when it is time for one."""
        due = time.monotonic() + self._heartbeat_s
        while True:
            try:
                frame = self._out.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                frame = session_pb2.ClientFrame(heartbeat=self._heartbeat())
                due = time.monotonic() + self._heartbeat_s
            if frame is None:
                return
            yield frame

    def _heartbeat(self):
        """It renews all leases, and tells which ones there are: the first four words, by exclusive or."""
        held = list(self._held)
        combined = 0
        for lease in held:
            for word in struct.unpack("<4I", lease[:16]):
                combined ^= word
        return session_pb2.Heartbeat(in_flight=len(held), hash=combined)

    def _listen(self):
        try:
            for frame in self._stream:
                self._hear(frame)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                print(f"the connection has ended: {error.details()}", file=sys.stderr)

    def _hear(self, frame):
        if frame.HasField("welcome"):
            self._heartbeat_s = frame.welcome.heartbeat_ms / 1000
            self.welcomed.set()
        for attached in frame.attached:
            if attached.HasField("refusal"):
                print(f"refused: {attached.refusal.message}", file=sys.stderr)
        for ack in frame.publish_ack:
            self.on_accepted(ack)
        for abort in frame.abort:
            # Cancelled, or given to somebody else: stop working on it.
            self._held.discard(abort.lease)
        for delivery in frame.delivery:
            if delivery.lease:
                self._held.add(delivery.lease)
            if delivery.HasField("result"):
                self.on_result(delivery.result)
                self.complete(delivery)
            else:
                self.on_task(delivery)
        if frame.list_in_flight:
            self._say(in_flight=session_pb2.InFlight(leases=list(self._held)))


def native(channel):
    """Whoever has the capability `count-words` counts the words of a text for `author`."""
    done = queue.Queue()

    worker = Session(channel, "python-worker")

    def count(delivery):
        try:
            words = len(delivery.task.payload.decode().split())
        except UnicodeDecodeError as error:
            worker.fail(delivery, f"not a text: {error}", retryable=False)
            return
        worker.complete(delivery, str(words).encode(), "text/plain")

    worker.on_task = count
    worker.attach("type:count-words")

    author = Session(channel, "python-author")
    author.on_result = done.put
    author.on_accepted = lambda ack: [print(f"refused: {one.message}", file=sys.stderr) for one in ack.refused]
    author.attach("reply:author")
    author.publish(
        # An id makes it safe to publish again: the same task is accepted once.
        task_pb2.Task(
            id=f"count-{uuid.uuid4()}",
            to="type:count-words",
            type="count-words",
            requester="author",
            payload="one two three four".encode(),
        )
    )
    result = done.get(timeout=DEADLINE_S)
    worker.close()
    author.close()
    if result.outcome != task_pb2.OUTCOME_SUCCEEDED:
        raise RuntimeError(result.error)
    return int(result.payload)


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:50051"
    with grpc.insecure_channel(address) as channel:
        print("event bus:", event_bus(channel))
        print("native session:", native(channel), "words")


if __name__ == "__main__":
    main()
