"""Executes one step of the plan.

Relations are brought up to date in the order of the plan; those that do not
need one another go on side by side. What needs Spark, a look-up in the base or
a model's query, is asked for by yielding: look-ups that are asked for at the
same time become one query, models run in a few threads.
"""

import collections
import concurrent.futures
import time
from collections import Counter

import cells
from session import row_sql


class Lookup:
    def __init__(self, relation, index, keys):
        self.request = (relation, index, keys)


class Evaluate:
    def __init__(self, relation, inputs):
        self.relation, self.inputs = relation, inputs


class Delta:
    """What a step changes in a relation, found by index."""

    def __init__(self, relation, added, removed):
        self.relation, self.added, self.removed, self.indexes = relation, added, removed, {}

    def by(self, index):
        if index not in self.indexes:
            key, out = self.relation.indexes[index], []
            for rows in (self.added, self.removed):
                found = collections.defaultdict(list)
                for r in rows:
                    found[key.of(r)].append(r)
                out.append(found)
            self.indexes[index] = out
        return self.indexes[index]


class Step:
    """One step: arrived has the new rows by bronze table. After run, changes
    has (relation, scopes, rows) of what is to be stored, grown the new rows of
    relations that only grow."""

    def __init__(self, plan, sql, overlay, base, arrived, pool):
        self.plan, self.sql, self.overlay, self.base, self.pool = plan, sql, overlay, base, pool
        self.sets, self.keys = collections.defaultdict(list), collections.defaultdict(dict)
        self.delta, self.changes, self.grown = {}, [], []
        self.seconds, self.queries = Counter(), Counter()
        self.model_seconds = {}
        for r in plan.relations:
            if r.kind == "raw":
                self.sets[r.added] = arrived.get(r.table.name, [])

    def run(self, only=("raw", "fold", "model")):
        """Brings all relations of these kinds up to date."""
        waiting, done = {r.id: r for r in self.plan.relations if r.kind in only}, set()
        self.drive(waiting, done, self.relation)

    def drive(self, waiting, done, start):
        running, runnable, lookups, flying = {}, collections.deque(), [], {}
        while waiting or running:
            for r in [r for r in waiting.values() if done.issuperset(r.inputs)]:
                del waiting[r.id]
                running[r.id] = start(r)
                runnable.append((r.id, None))
            while runnable:
                id, answer = runnable.popleft()
                try:
                    asked = running[id].send(answer)
                except StopIteration:
                    del running[id]
                    done.add(id)
                    continue
                if isinstance(asked, Lookup):
                    lookups.append((id, asked.request))
                else:
                    flying[self.pool.submit(self.evaluate, asked)] = [id]
            if any(done.issuperset(r.inputs) for r in waiting.values()):
                continue
            if lookups:
                flying[self.pool.submit(self.base_lookups, [q for _, q in lookups])] = [id for id, _ in lookups]
                lookups = []
            if flying:
                ready, _ = concurrent.futures.wait(flying, return_when=concurrent.futures.FIRST_COMPLETED)
                for f in ready:
                    runnable.extend(zip(flying.pop(f), f.result()))

    def base_lookups(self, requests):
        began = time.monotonic()
        answer = self.base.lookup(requests)
        self.seconds["lookups"] += time.monotonic() - began
        self.queries["lookups"] += 1
        return answer

    def evaluate(self, asked):
        """The model's rows over its inputs. Its views are its own, so that
        several models can run at the same time."""
        began = time.monotonic()
        names, own = dict(self.sql.seeds), f"{self.sql.prefix}in{asked.relation.id}_"
        for table, rows in asked.inputs.items():
            view = own + table.replace(".", "__")
            names[table] = self.sql.view(table, cells.arrow_table(rows, self.plan.tables[table].columns), view)
        select = self.plan.models[asked.relation.name].sql(names.__getitem__)
        table = asked.relation.table
        rows = self.sql.rows(row_sql(table, f"({select})"), table.types)
        took = time.monotonic() - began
        self.seconds["models"] += took
        self.queries["models"] += 1
        self.model_seconds[asked.relation.name] = took
        return [rows]

    def relation(self, r):
        if r.kind == "raw":
            if self.sets[r.added]:
                self.delta[r.id] = Delta(r, self.sets[r.added], [])
                if r.indexes:
                    self.grown.append((r, self.sets[r.added]))
            return
        for op in r.step:
            yield from getattr(self, "op_" + op["op"])(r, op)

    def op_keys(self, r, op):
        take, out, drop = op["key"].of, self.keys[op["out"]], op["drop_nulls"]
        for row in self.sets[op["from"]]:
            key = take(row)
            if not drop or None not in key:
                out[key] = True
        return
        yield

    def op_lookup(self, r, op):
        relation, index, keys = self.plan.relations[op["relation"]], op["index"], self.keys[op["keys"]]
        if not keys:
            self.sets[op["out"]] = []
            return
        rows = self.overlay.lookup(relation, index, keys)
        if self.base.has(relation):
            rows += yield from self.from_base(relation, index, list(keys))
        delta = self.delta.get(relation.id)
        if delta and op["state"] == "new":
            rows = self.apply(delta, index, keys, rows)
        self.sets[op["out"]] = rows

    def from_base(self, relation, index, keys):
        """The base's rows, but for scopes that the overlay has."""
        if relation.kind != "raw" and index == 0:
            have = self.overlay.covered(relation, keys)
            keys = [k for k in keys if k not in have]
            if not keys:
                return []
        rows = yield Lookup(relation, index, keys)
        if relation.kind == "raw":
            return rows
        scope = relation.indexes[0].of
        have = self.overlay.covered(relation, {scope(r) for r in rows})
        return [r for r in rows if scope(r) not in have]

    @staticmethod
    def apply(delta, index, keys, rows):
        added, removed = delta.by(index)
        gone = Counter(r for k in keys if k in removed for r in removed[k])
        if gone:
            kept = []
            for r in rows:
                if gone[r] > 0:
                    gone[r] -= 1
                else:
                    kept.append(r)
            rows = kept
        return rows + [r for k in keys if k in added for r in added[k]]

    def op_fold(self, r, op):
        take, order, first = r.indexes[0].of, r.fold["order"], {}
        for name in op["from"]:
            for row in self.sets[name]:
                key = take(row)
                if key not in first or before(order, row, first[key]):
                    first[key] = row
        self.sets[op["out"]] = list(first.values())
        return
        yield

    def op_evaluate(self, r, op):
        touched, out = self.keys[op["touched"]], []
        self.sets[op["out"]] = out
        if not touched:
            return
        inputs = {table: self.union(sets) for table, sets in op["inputs"].items() if table in self.plan.tables}
        take = r.indexes[0].of
        rows = yield Evaluate(r, inputs)
        out.extend(row for row in rows if take(row) in touched)

    def union(self, names):
        """Row sets together; a row that several of them have is one row."""
        if len(names or []) == 1:
            return self.sets[names[0]]
        have = Counter()
        for name in names or []:
            have |= Counter(self.sets[name])
        return list(have.elements())

    def op_diff(self, r, op):
        before, after = Counter(self.sets[op["old"]]), Counter(self.sets[op["new"]])
        self.sets[op["added"]] = list((after - before).elements())
        self.sets[op["removed"]] = list((before - after).elements())
        return
        yield

    def op_replace(self, r, op):
        added, removed = self.sets[op["added"]], self.sets[op["removed"]]
        if added or removed:
            take = r.indexes[0].of
            self.delta[r.id] = Delta(r, added, removed)
            changed = {take(row): True for row in added + removed}
            self.changes.append((r, list(changed), [row for row in self.sets[op["new"]] if take(row) in changed]))
        return
        yield

    def restate(self, scopes):
        """Adds to the changes what these scopes, by relation, are now where
        the step did not change them."""
        def again(r):
            changed = next((set(s) for c, s, _ in self.changes if c is r), set())
            left = [s for s in scopes[r.id] if s not in changed]
            if not left:
                return
            rows = self.overlay.lookup(r, 0, left)
            if self.base.has(r):
                rows += yield from self.from_base(r, 0, left)
            found = next((c for c in self.changes if c[0] is r), (r, [], []))
            self.changes = [c for c in self.changes if c is not found] + [(r, found[1] + left, found[2] + rows)]
        waiting = {r.id: r for r in self.plan.relations if r.id in scopes}
        self.drive(waiting, {r.id for r in self.plan.relations} - set(waiting), again)

    def store(self, number):
        """Writes the step to the overlay, within the caller's transaction."""
        for relation, rows in self.grown:
            self.overlay.add(relation, number, rows)
        for relation, scopes, rows in self.changes:
            self.overlay.replace(relation, number, scopes, rows)


def before(order, a, b):
    """Whether row a stands before row b."""
    for term in order:
        x, y = a[term["cell"]], b[term["cell"]]
        if x is None and y is None:
            continue
        if x is None or y is None:
            return (x is None) == term["nulls_first"]
        if x is not y and x != y:
            if isinstance(x, float) and (x != x or y != y):  # NaN is the greatest
                return (y != y) != term["desc"]
            return (x < y) != term["desc"]
    return False
