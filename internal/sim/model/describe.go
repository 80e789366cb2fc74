package model

import (
	"fmt"
	"strings"
)

func instanceName(i int) string { return string(rune('A' + i)) }

func (l list) String() string {
	if l == overfull {
		return "[too many]"
	}
	text := "]"
	for ; l > 0; l >>= 4 {
		text = fmt.Sprintf(" %d", l&15-1) + text
	}
	return "[" + strings.TrimPrefix(text, " ")
}

var outcomes = [...]string{
	plain: "", toDone: "", toFenced: "refused: somebody else owns it", toInvalid: "begins its takeover again", lost: "done, and the answer is lost",
	late: "on its way, and not waited for", tornApart: "the broker is killed",
}

func (p step) String() string {
	who := ""
	if p.by != noInstance {
		who = instanceName(int(p.by)) + " "
	}
	return strings.TrimSuffix(who+p.name+": "+outcomes[p.outcome], ": ")
}

// describe tells a step in one line, with what it changed at the broker and, at its
// place in the protocol, in the instance.
func (m *Model) describe(by step, before, after *State) string {
	line := by.String()
	if by.by != noInstance {
		line += m.describeInstance(int(by.by), before, after)
	}
	for p := range m.config.Partitions {
		line += m.describeLogs(p, before, after)
	}
	if before.tx.epoch != after.tx.epoch {
		line += fmt.Sprintf("; producer epoch %d", after.tx.epoch)
	}
	return line
}

func (m *Model) describeInstance(i int, before, after *State) string {
	was, is := &before.instances[i], &after.instances[i]
	text := ""
	if was.gen != is.gen && is.gen > 0 {
		text += fmt.Sprintf("; generation %d", is.gen)
	}
	for p := range m.config.Partitions {
		if was.work.from[p] != is.work.from[p] && is.at != idle && is.at != atInit {
			text += fmt.Sprintf("; partition %d from %d", p, is.work.from[p])
		}
		if is.work.to[p] > is.work.from[p] && was.at == atFetch {
			text += fmt.Sprintf("; partition %d inputs %d-%d", p, is.work.from[p], is.work.to[p]-1)
		}
		if was.marks[p] != is.marks[p] {
			text += fmt.Sprintf("; store %d covers changelog %d, input %d", p, is.marks[p].changelog, is.marks[p].input)
		}
	}
	if was.work.told != is.work.told {
		for p := range m.config.Partitions {
			if is.work.told[p] != 0 {
				text += fmt.Sprintf("; partition %d told %04b", p, is.work.told[p])
			}
		}
	}
	if is.at == atAnnounce && was.at == atRestore {
		for subject, name := range m.subjects {
			text += fmt.Sprintf("; %s %s", name, is.work.base[subject])
		}
	}
	return text
}

func (m *Model) describeLogs(p int, before, after *State) string {
	text := ""
	for i, e := range after.events[p] {
		if e != before.events[p][i] {
			text += fmt.Sprintf("; events/%d@%d %s%s", p, i, m.events[e.id].name, e.fate)
		}
	}
	for i, r := range after.rows[p] {
		if r.fate == free && before.rows[p][i].fate != free {
			continue // the topic was made anew
		}
		if r != before.rows[p][i] {
			text += fmt.Sprintf("; states/%d@%d%s", p, i, r.fate)
			if r.fate != aborted {
				text += fmt.Sprintf(" %s %s", m.subjects[r.subject], r.folded)
			}
		}
	}
	for i, c := range after.changes[p] {
		if c.fate == free && before.changes[p][i].fate != free {
			continue
		}
		if c != before.changes[p][i] {
			text += fmt.Sprintf("; changes/%d@%d%s", p, i, c.fate)
			if c.fate != aborted {
				text += fmt.Sprintf(" of input %d", c.input)
			}
		}
	}
	if after.offsets[p] != before.offsets[p] {
		c := after.offsets[p]
		text += fmt.Sprintf("; offset/%d is %d, %s", p, c.next, c.note)
	}
	return text
}

func (f fate) String() string {
	return [...]string{"", " open", "", " aborted"}[f]
}

// String is the metadata as it is written.
func (n note) String() string {
	return fmt.Sprintf("from=%d;states=%s;changes=%s", n.from, n.rows, n.changes)
}

func (s span) String() string {
	if s.end == 0 {
		return "-"
	}
	return fmt.Sprintf("%d-%d", s.first, s.end-1)
}
