"""The part of the gallery that was our own: bugs that were met here, put back in.

What is asked of the others is asked of these: an ordinary seed finds each, but for those in `RARE`,
whose failures, made small, are in `tests/regressions/`, and those in `BY_TEST`.
"""

from __future__ import annotations

from .mutant import Mutant
from .mutant import one_change as _mutant

_FIRST_START = "node/process/first_start.py"
_FOUNDING = "node/cluster/founding.py"
_INCARNATIONS = "node/peers/incarnations.py"
_DISK_SPACE = "node/driver/disk_space.py"
_INTAKE = "node/driver/intake.py"
_ROOMS = "node/cluster/rooms.py"
_BATCH = "node/state/batch.py"
_CORE = "node/raft/core.py"
_FRAME_CHECK = "node/peers/frame_check.py"
_INTACT = "node/state/intact.py"
_STATUS = "node/cluster/status.py"
_RULES_OF_REPLICATION = "tests/node/raft/test_replication.py::"
_SILENT_LINKS = "tests/node/peers/test_silent_links.py::"
_HOSTILE = "tests/node/test_hostile_members.py::"
_TERMS = "node/raft/terms.py"
_MEMBERS = "node/cluster/membership.py"
_STATE_MEMBERS = "node/state/members.py"
_NODE = "node/node.py"
_RECONCILER = "node/cluster/reconciler.py"
_ONLY_VOTER = "node/process/only_voter.py"
_PEERS = "node/peers/links.py"
_REPLICA = "node/driver/replica.py"
_ROCKS = "node/storage/rocks.py"
_ROCKS_LOG = "node/storage/rocks_log.py"
_REPLICATION = "node/raft/replication.py"
_CLOCKS = "node/cluster/session_clocks.py"
_DECISIONS = "node/driver/decisions.py"
_ENDS = "node/cluster/session_ends.py"
_NODES = "node/cluster/session_nodes.py"
_SESSION_TESTS = "tests/node/cluster/test_session_clocks.py::"
_SERF = "node/cluster/serf_health.py"
_SERF_TESTS = "tests/node/cluster/test_serf_health.py::"
_CONTACT = "node/driver/contact.py"
_CONTACT_TESTS = "tests/node/driver/test_contact.py::"


_REFUSE = (
    "            if found and found == earlier != incarnation:\n                return where\n"
)
_RESET = "            if link.incarnation not in {0, incarnation}:\n                link.reset()\n"

OWN = (
    _mutant(
        "a-deposed-leaders-renewal-is-answered", "Another leader confirmed, which has not heard of it.",
        _CLOCKS, "is_same = self._facts.is_leader and self._facts.term == term", "is_same = True",
        layer="B",
    ),
    _mutant(
        "a-renewal-is-answered-without-the-lead", "Whoever believes to lead answers it at once.",
        _CLOCKS, "            waiting.submit_read(read)\n", "            read.finish(None)\n", layer="B",
    ),
    Mutant(
        "a-followers-clock-ends-sessions", (), "Which hears of no renewal.",
        (
            (_CLOCKS, "term = self._facts.term if self._facts.is_leader else 0", "term = self._facts.term"),
            (_DECISIONS, "math.inf, tell, is_foreign=True", "1e6, tell"),
            (_DECISIONS, "if replica.facts.is_leader and replica.facts.term == term:", "if term:"),
        ),
        "B",
    ),
    _mutant(
        "a-leader-goes-on-with-the-clocks-of-its-last-term", "Another one led, and renewed, in between.",
        _CLOCKS, "        self._clocks.clear()\n        self._due.clear()\n", "", layer="B",
    ),
    _mutant(
        "a-session-ends-before-twice-its-ttl", "Its client counts on twice.",
        _CLOCKS, "_TTLS * session.ttl_ms / 1000", "session.ttl_ms / 1000", layer="B",
    ),
    _mutant(
        "a-renewal-does-not-start-the-clock", "It is answered all the same.",
        _CLOCKS, "            clock.started_at = now\n", "            pass\n", layer="B",
    ),
    _mutant(
        "a-renewal-is-answered-while-the-end-is-proposed", "The session ends just after.",
        _ENDS, "        if waiting is None:\n            return False\n",
        "        if waiting is None or waiting is not None:\n            return False\n", layer="B",
    ),
    _mutant(
        "an-end-is-forwarded-to-the-next-leader", "Which gave the session its whole time again.",
        _DECISIONS, "math.inf, tell, is_foreign=True", "1e6, tell", layer="B",
    ),
    _mutant(
        "sessions-of-a-dead-node-have-no-grace", "A restart in place ends them.",
        _NODES, "settings.session_node_grace_ms / 1000", "settings.session_node_grace_ms * 0.0", layer="B",
    ),
    _mutant(
        "sessions-of-a-dead-node-stay", "Nobody looks at the checks they depend on.",
        _NODES, "                self._ends.decide(session.id, check)\n",
        "                pass\n", layer="B",
    ),
    _mutant(
        "a-new-leader-misses-a-session", "It has no clock, and so no end.",
        _CLOCKS, "                if session.id not in ended:\n",
        "                if session.id not in ended and count > 1:\n", layer="B",
    ),
    _mutant(
        "a-session-made-while-others-are-loaded-is-missed", "What has changed is looked at for ends only.",
        _CLOCKS, "                        self._changed(change)\n                        if change.value is None:",
        "                        if change.value is None:", layer="B",
    ),
    _mutant(
        "a-session-made-while-others-are-loaded-ends-late", "Its clock starts only after that.",
        _CLOCKS, "                    for change, _ in watch.take():\n                        self._changed(change)\n"
        "                        if", "                    for change, _ in ():\n                        if", layer="B",
    ),
    _mutant(
        "the-sessions-a-gone-member-left-to-a-new-leader-stay", "The old one died in the middle.",
        _NODES, "if session.node not in self._facts.node_numbers:\n", "if not self._numbers:\n",
        layer="B",
    ),
    _mutant(
        "a-new-leader-believes-that-all-live", "A dead member passes for some seconds.",
        _SERF, "            is_known = node == self._facts.id or self._status.is_heard(node)\n",
        "            is_known = True\n", layer="B",
    ),
    _mutant(
        "a-quick-restart-is-critical", "Its instances are dropped, though its applications live.",
        _SERF, "0.0 if down_since is None else down_since + RESTART_S", "0.0", layer="B",
    ),
    _mutant(
        "entries-of-a-peer-are-not-looked-at", "One that no node can carry out becomes durable.",
        _FRAME_CHECK, "            if frame.entries:", "            if not frame.entries:",
        layer="B",
    ),
    _mutant(
        "any-term-is-taken-over-at-once", "One frame brings a node to where no election can follow.",
        _FRAME_CHECK, "if term > TERM_JUMPED_MAX and not self._insists(peer, now):", "if False:",
        layer="B",
    ),
    _mutant(
        "a-proof-of-contact-never-ages", "A leader that was halted names itself for ever.",
        _CONTACT, "        return self._proven_at >= oldest\n", "        return True\n", layer="B",
    ),
    _mutant(
        "overwritten-proposal-has-the-later-term", "A step appends it, and goes on to a newer term.",
        _CORE, "        self._gather_persist()\n",
        "        self.update.appended = [(rid, self.term, at) for rid, _, at in self.update.appended]\n"
        "        self._gather_persist()\n",
    ),
    _mutant(
        "recovered-term-is-another-leaders", "The vote for itself is in a term that it had voted in.",
        _ONLY_VOTER, "    term = max(found.hard_state.term, _last_term(found)) + 1\n",
        "    term = max(found.hard_state.term, _last_term(found))\n",
    ),
    _mutant(
        "gone-peer-is-gone-for-ever", "Who is back gets no vote counted, if its port refused once.",
        _TERMS, "if message.frm == core.gone:", "if message.frm == core.gone < 0:",
    ),
    _mutant(
        "lost-tail-of-nobody-is-waited-for", "Until the log has grown as far again, though what was "
        "lost was never committed.",
        _CORE, "if last >= self._recover_to or (self.log.term_at(last) or 0) >= self._recover_term:",
        "if last >= self._recover_to:",
    ),
    _mutant(
        "short-timeouts-are-not-random", "Of three ticks a half is one: two voters always ask at once.",
        _CORE, "self.rng.randrange(max(int(ticks * jitter), 2))",
        "self.rng.randrange(max(int(ticks * jitter), 1))",
    ),
    _mutant(
        "timeouts-are-drawn-below-their-least", "The random part is taken off, not added.",
        _CORE, "self.timeout = ticks + self.rng", "self.timeout = ticks - self.rng",
    ),
    _mutant(
        "commit-is-told-before-it-is-one", "All that was sent is called committed.",
        _REPLICATION,
        "            core.send(\n"
        "                Append(core.id, peer, core.term, prev, prev_term, [], log.commit, is_news=True)\n"
        "            )\n"
        "            progress.sent_commit = log.commit\n",
        "            core.send(Append(core.id, peer, core.term, prev, prev_term, [], prev))\n"
        "            progress.sent_commit = log.commit\n",
    ),
    _mutant(
        "commit-is-told-to-whoever-has-not-matched", "By a heartbeat, which nobody compares logs for.",
        _REPLICATION,
        "        if progress.state is ProgressState.REPLICATE and is_untold and prev_term is not None:\n"
        "            core.send(\n"
        "                Append(core.id, peer, core.term, prev, prev_term, [], log.commit, is_news=True)\n"
        "            )\n",
        "        if progress.sent_commit < log.commit and prev_term is not None:\n"
        "            core.send(Heartbeat(core.id, peer, core.term, log.commit, core.round))\n",
    ),
    _mutant(
        "removed-leader-proposes-on", "Turn after turn, while its core refuses.",
        "node/driver/intake.py",
        "if core.transfer is None and core.id in core.config.all_voters():",
        "if core.transfer is None:", layer="B",
    ),
    _mutant(
        "member-on-its-way-out-has-no-address", "Who starts meanwhile cannot ask for its vote.",
        _NODE, "for peer in (*members, leader):", "for peer in (leader,):", layer="B",
    ),
    _mutant(
        "leader-that-joined-later-has-no-address", "Who is behind cannot answer it.",
        _NODE, "for peer in (*members, leader):", "for peer in members:", layer="B",
    ),
    _mutant(
        "replaced-member-may-come-back", "Its id is not among those that were removed.",
        _STATE_MEMBERS, "    _forget(batch, gone.id)\n",
        "    batch.set_value(MEMBERS, {k: v for k, v in members.items() if k != gone.id})\n"
        "    batch.delete(records.id_key(records.MEMBER, gone.id))\n", layer="B",
    ),
    _mutant(
        "a-copy-is-let-in-beside-its-original", "Whoever comes last is the peer, as it was once.",
        _INCARNATIONS, _REFUSE, "", layer="B",
    ),
    Mutant(
        "two-processes-of-a-peer-are-linked-side-by-side", (), "One way each.",
        (
            (_INCARNATIONS, _REFUSE, ""),
            (_PEERS, _RESET, "            link.hurry()\n"),
        ), "B",
    ),
    _mutant(
        "whoever-answers-is-the-earlier-process", "Also the newcomer itself, after a restart in place.",
        _INCARNATIONS, "if found and found == earlier != incarnation:", "if found:", layer="B",
    ),
    _mutant(
        "who-does-not-answer-is-taken-to-run", "So nobody who restarts is let in behind a partition.",
        _INCARNATIONS, "            found = await self._probe(peer, where)\n",
        "            found = await self._probe(peer, where) or (known.incarnation if known else 0)\n",
        layer="B",
    ),
    _mutant(
        "a-cluster-is-given-up-with-what-was-written", "Whoever dials it ends it, at any time.",
        _FOUNDING, "            self._is_fresh = log is not None and all(map(self._is_of_the_founder, log))\n",
        "            self._is_fresh = log is not None\n", layer="B",
    ),
    _mutant(
        "a-second-cluster-at-one-address-goes-on", "It is only warned of, before anybody wrote to it.",
        _NODE, "        if self._founding.is_fresh():\n", "        if self._founding.is_fresh() and not own:\n",
        layer="B",
    ),
    _mutant(
        "a-new-seed-hears-nothing", "What is said to it before it leads is thrown away.",
        _FIRST_START, "            self.heard.set()\n", "            self.hello = None\n", layer="B",
    ),
    _mutant(
        "short-node-stands-at-once", "It would have to refuse every write.",
        _CORE, "if self.is_short and self.leaderless < patience:", "if patience < 0:",
    ),
    _mutant(
        "short-node-takes-the-lead", "From a leader that does not know.",
        "node/raft/transfer.py", "core.is_promotable() and not core.is_short:",
        "core.is_promotable():",
    ),
    _mutant(
        "short-node-never-stands", "Though no other can win.",
        _CORE, "if self.is_short and self.leaderless < patience:", "if self.is_short:",
    ),
    _mutant(
        "short-node-is-short-for-ever", "Its core does not hear that there is room again.",
        _CORE, "        self.is_short = event.is_short\n", "        self.is_short = True\n",
    ),
)  # fmt: skip

RARE = (
    _mutant(
        "who-has-lost-log-is-counted-on", "A member is let go whose vote is needed instead.",
        _MEMBERS, "while sum(map(self._facts.has_own_term, live)) < needed:", "while len(live) < needed:",
        layer="B",
    ),
    _mutant(
        "a-loss-does-not-put-off-what-was-agreed", "A member goes though one of the rest has no vote.",
        _RECONCILER, "may_go = 2 * sum(map(facts.has_own_term, staying)) > len(staying)", "may_go = True",
        layer="B",
    ),
    Mutant(
        "last-turn-asks-closed-rooms", (), "A node that ends raises.",
        (
            (_MEMBERS, "elif self._nursery is not None:", "else:"),
            (_PEERS, "        if self._is_over:\n            return\n", ""),
        ), "B",
    ),
)  # fmt: skip
"""Those that ordinary seeds meet too rarely to be searched for; their regressions show them."""

_PROCESSES = "tests/node/peers/test_incarnations.py"
_RULES = "tests/node/driver/test_driver_rules.py::"
_SHORT = "tests/node/cluster/test_rooms.py::"

_ROLLBACK = (
    "tests/node/state/test_batch.py::test_a_rollback_leaves_everything_as_it_was_at_the_savepoint"
)

_MEMBERSHIP_TESTS = "tests/node/cluster/test_membership.py::"
_ALIVE = "test_a_member_that_is_alive_is_not_replaced_but_named_with_the_command_that_stops_it"
_CUT_SHORT = (
    "tests/node/process/test_only_voter.py"
    "::test_a_crash_leaves_the_old_node_or_one_that_does_not_start_and_is_finished"
)

BY_TEST = (
    (
        _mutant(
            "an-end-waits-for-the-next-term", "Its leader is elected again, and has started all clocks again.",
            _DECISIONS, "if replica.facts.is_leader and replica.facts.term == term:", "if term:",
        ),
        _SESSION_TESTS + "test_an_end_decided_as_the_lead_is_lost_is_not_proposed_later",
    ),
    (
        _mutant(
            "what-waits-is-written-though-it-is-over", "A member is critical that was heard meanwhile.",
            _SERF, "        if status == wanted or request.index:\n", "        if status:\n",
        ),
        _SERF_TESTS + "test_a_write_that_waited_calls_nobody_critical_who_was_heard",
    ),
    (
        _mutant(
            "a-leader-proposes-what-followers-refuse", "It replicates nothing from then on.",
            "node/driver/intake.py",
            "if not request.is_checked and not self._is_in_bounds(request):",
            "if request.is_done:",
        ),
        "tests/node/driver/test_own_commands.py::test_results_of_checks_are",
    ),
    (
        _mutant(
            "end-of-an-unasked-wait-is-not-proven", "The leader may have been replaced meanwhile.",
            "node/api/dialect/questions.py",
            "        return self._asked(super().over())", "        return super().over()",
        ),
        "tests/node/api/dialect/test_unasked_reads.py::test_so_does_the_end_of_the_wait",
    ),
    (
        _mutant(
            "what-waited-in-a-buffer-is-fresh", "A node that was stopped believes old heartbeats.",
            _CONTACT, "        elif not self._is_doubted:\n"
            "            self._proven_at = max(self._proven_at, before)\n",
            "        self._proven_at = now\n",
        ),
        f"{_CONTACT_TESTS}test_after_a_pause_what_waited_in_the_buffers_proves_nothing",
    ),
    (
        _mutant(
            "late-answers-are-fresh", "A leader that was stopped believes old answers.",
            _CONTACT,
            "                self._proven_at = max(self._proven_at, self._rounds.popleft()[1])\n",
            "                self._rounds.popleft()\n"
            "                self._proven_at = trio.current_time()\n",
        ),
        f"{_CONTACT_TESTS}test_late_answers_to_old_rounds_prove_no_more_than_when_these_were_sent",
    ),
    (
        _mutant(
            "a-link-to-an-earlier-process-stays", "Until TCP notices, with the new one linked, too.",
            _PEERS, _RESET, "            link.hurry()\n",
        ),
        f"{_PROCESSES}::test_a_link_to_the_earlier_process_ends_when_another_one_is_let_in",
    ),
    (
        _mutant(
            "a-search-ends-a-new-seed", "Any cluster that has lost its members stops the others.",
            _FIRST_START, "if hello is not None and hello.purpose != wire.Purpose.IDENTIFY:",
            "if hello is not None:",
        ),
        "tests/node/process/test_first_start.py::test_bytes_that_are_no_such_greeting_do_not_end_a_start",
    ),
    (
        _mutant(
            "rollback-keeps-changes", "Watches are given what was undone.",
            _BATCH, "        del self.changes[savepoint.changes :]\n", "",
        ),
        _ROLLBACK,
    ),
    (
        _mutant(
            "rollback-keeps-what-is-in-memory", "Members, settings and the like.",
            _BATCH, "        self.values = savepoint.values\n", "",
        ),
        _ROLLBACK,
    ),
    (
        _mutant(
            "rollback-undoes-writes-in-their-order", "A record gets a value from in between.",
            _BATCH, "reversed(undo[savepoint.undone_to :])", "undo[savepoint.undone_to :]",
        ),
        _ROLLBACK,
    ),
    (
        _mutant(
            "who-is-alive-is-replaced", "Whatever the leader has heard of it.",
            _MEMBERS, "if self._status.is_running(gone.id):", "if not self._status:",
        ),
        f"{_MEMBERSHIP_TESTS}{_ALIVE}",
    ),
    (
        _mutant(
            "half-of-a-replacement-is-enough", "Who takes the place is refused, and who had it is out.",
            _STATE_MEMBERS,
            "    refusal = _refusal(batch, newcomer, gone.id)\n    if refusal:\n",
            "    refusal = _refusal(batch, newcomer, gone.id)\n    _forget(batch, gone.id)\n"
            "    if refusal:\n",
        ),
        "tests/node/state/test_machine.py::test_a_replacement_that_is_refused_takes_nobody_out",
    ),
    (
        _mutant(
            "recovered-log-comes-before-the-new-id", "A crash leaves a majority of one in the old cluster.",
            _ROCKS, "        replace_identity(self._path, identity, before)\n"
            "        self._identity = identity\n        log.become(identity, hard_state, entries)\n",
            "        self._identity = identity\n        log.become(identity, hard_state, entries)\n"
            "        replace_identity(self._path, identity, before)\n",
        ),
        _CUT_SHORT,
    ),
    (
        _mutant(
            "recovered-node-still-misses-its-log", "It waits for a leader that it is itself.",
            _ROCKS_LOG, "            batch.delete(codec.LOSS_KEY)\n\n        self._write(fill, last, chain)",
            "\n        self._write(fill, last, chain)",
        ),
        "tests/node/process/test_only_voter.py::test_indexes_that_were_lost_are_not_given_again",
    ),
    (
        _mutant(
            "an-older-disk-is-not-found-out", "It is asked for ever, and counted on.",
            _REPLICATION, "    elif core.refused_at >= message.commit and not core.is_recovering:\n",
            "    elif core.refused_at < 0:\n",
        ),
        "tests/node/test_recovery.py::test_an_older_copy_of_the_directory_is_found_out_and_heals",
    ),
    (
        _mutant(
            "damage-that-a-client-met-is-its-own", "The node goes on until it meets it itself.",
            _DISK_SPACE, "        if self._waited_s >= _CHECK_S:\n", "        if self._waited_s < 0:\n",
        ),
        "tests/node/test_recovery.py::test_damage_that_a_clients_read_meets_ends_the_node",
    ),
    (
        _mutant(
            "disks-of-a-majority-are-filled", "As long as the leader's own has room.",
            _ROOMS, "is_majority or not short", "True",
        ),
        _SHORT + "test_new_values_are_refused_when_the_voters_with_room_are_no_majority",
    ),
    (
        _mutant(
            "deletions-wait-for-room", "Which only they can bring.",
            _DISK_SPACE, "if effect is Effect.FREES and not is_tight:",
            "if effect is Effect.FREES and not self.refusal:",
        ),
        _SHORT + "test_deletions_pass_while_new_values_are_refused",
    ),
    (
        _mutant(
            "room-is-never-reclaimed", "What is deleted stays on the disk.",
            "node/driver/reclaimer.py", "        await self._storage.reclaim()\n", "",
        ),
        _SHORT + "test_writes_are_taken_again_after_a_deletion",
    ),
    (
        _mutant(
            "one-limit-for-short-and-ample", "The lead goes to and fro.",
            _DISK_SPACE, "not room.is_ample if self.is_short else room.is_short", "room.is_short",
        ),
        _SHORT + "test_a_disk_that_was_short_needs_a_quarter_more",
    ),
    (
        _mutant(
            "members-wait-for-room", "No larger disk can join.",
            _DISK_SPACE, "if effect is Effect.SMALL:", "if effect is None:",
        ),
        _SHORT + "test_members_and_settings_change_however_little_room_there_is",
    ),
    (
        _mutant(
            "lead-goes-by-what-was-said-before", "To a node that is as short by now.",
            _ROOMS, "if self._status.reported_at(-one[1]) > self._asked_at]", "]",
        ),
        _SHORT + "test_nodes_on_one_disk_do_not_hand_the_lead_round",
    ),
    (
        _mutant(
            "short-leader-leads-on", "And refuses every write, while others have room.",
            _ROOMS, "        if self._space.is_short:\n", "        if not short:\n",
        ),
        _SHORT + "test_a_leader_whose_disk_is_short_hands_over_and_no_write_is_refused",
    ),
    (
        _mutant(
            "dead-voters-have-room", "The one that every write needs is filled.",
            _ROOMS, "voter: voter in live and voter not in short", "voter: voter not in short",
        ),
        _SHORT + "test_a_voter_that_is_down_has_no_room",
    ),
    (
        _mutant(
            "what-is-under-way-takes-no-room", "64 MiB are taken before the disk is looked at.",
            _INTAKE, "self._disk_space.fitting - under_way + 1)", "_MAX_PROPOSAL_BYTES)",
        ),
        _RULES + "test_no_more_is_under_way_than_fits_on_the_leaders_disk",
    ),
    (
        _mutant(
            "room-is-noticed-with-the-next-tick", "Ten values a second, on a disk with little room.",
            _INTAKE, "        if update.apply and waiting.queued:\n", "        if False:\n",
        ),
        _RULES + "test_where_hardly_anything_fits_values_are_taken_one_by_one",
    ),
    (
        _mutant(
            "high-terms-are-refused-for-ever", "Who was brought there by one frame is shut out.",
            _FRAME_CHECK, "return now - began >= _INSISTS_S", "return False",
        ),
        _HOSTILE + "test_the_highest_term_that_one_frame_brings_does_not_shut_a_node_out",
    ),
    (
        _mutant(
            "a-second-leader-of-a-term-is-followed", "Whoever says so last leads.",
            _REPLICATION, "core.role is Role.LEADER or core.leader not in (0, leader)",
            "core.role is Role.LEADER",
        ),
        _RULES_OF_REPLICATION + "test_a_second_leader_of_a_term_is_refused_and_the_first_is_followed",
    ),
    (
        _mutant(
            "a-state-is-taken-as-it-comes", "A node ends by it each time that it starts.",
            _INTACT, "                self._take(key, value)\n",
            "                key == APPLIED_KEY and self._take(key, value)\n",
        ),
        _HOSTILE + "test_a_state_that_cannot_be_read_is_not_installed",
    ),
    (
        _mutant(
            "one-bulletin-shuts-all-others-out", "If its term is high enough.",
            _STATUS, "min(health.bulletin.term, facts.term)", "health.bulletin.term",
        ),
        _HOSTILE + "test_a_bulletin_of_a_false_term_shuts_no_other_out",
    ),
    (
        _mutant(
            "anybody-answers-for-the-leader", "A client is told what was never done.",
            _INTAKE, "if request is None or request.passed_to != peer:", "if request is None:",
        ),
        _HOSTILE + "test_only_the_node_that_was_asked_can_answer",
    ),
    (
        _mutant(
            "a-silent-link-is-waited-for", "Until the pauses of TCP are over.",
            "node/peers/link.py", "            self._silent.set()\n", "            pass\n",
        ),
        _SILENT_LINKS + "test_a_silent_link_is_made_anew_and_nobody_misses_the_leader",
    ),
    (
        _mutant(
            "any-member-can-end-a-node", "By saying that it was removed.",
            _NODE, "if refusal in _FATAL and peer", "if refusal in () and peer",
        ),
        _HOSTILE + "test_what_one_member_says_ends_no_node_that_its_leader_counts",
    ),
)  # fmt: skip
"""Mistakes that no seed meets (such as in files on a real disk), or none can tell from what is right."""
