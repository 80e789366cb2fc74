package model

import (
	"errors"
	"flag"
	"testing"
)

var large = flag.Bool("large", false, "explore the large configurations too")

// Scripts: what the events do. Those of onePartition are about a and b in one partition,
// those of twoPartitions about a in the first and b in the second, linked from a to b.
var (
	onePartition = map[string]Event{
		"a1": {Kind: Plain, Subject: "a"}, "a2": {Kind: Plain, Subject: "a"}, "a3": {Kind: Plain, Subject: "a"},
		"b1":     {Kind: Plain, Subject: "b"},
		"letter": {Kind: Dead, Subject: "b"},
		"unlink": {Kind: Quiet, Subject: "a"},
		"grant":  {Kind: Plain, Subject: "a", Carries: "expire"},
		"expire": {Kind: Plain, Subject: "a"},
	}
	twoPartitions = map[string]Event{
		"withdraw": {Kind: Plain, Subject: "a", Carries: "carried"},
		"link":     {Kind: Quiet, Subject: "a", Carries: "carried"},
		"carried":  {Kind: Plain, Subject: "b", Partition: 1},
		"grant":    {Kind: Plain, Subject: "b", Partition: 1},
		"a1":       {Kind: Plain, Subject: "a"},
	}
)

// small configurations, by what they are about.
var small = map[string]Config{
	"takeovers": {
		Events: onePartition, Log: []string{"a1", "a2"}, Partitions: 1, Instances: 2, Takeovers: 3, Losses: 1},
	"two requests lost": {
		Events: onePartition, Log: []string{"a1", "a2"}, Partitions: 1, Instances: 2, Takeovers: 2, Losses: 2},
	"compaction": {
		Events: onePartition, Log: []string{"a1", "a2"}, Partitions: 1, Instances: 2, Takeovers: 3, Compacts: true},
	"a link carries": {
		Events: twoPartitions, Log: []string{"link", "grant"}, Partitions: 2, Instances: 2, Takeovers: 2, Losses: 1},
	"a grant expires": {
		Events: onePartition, Log: []string{"grant"}, Partitions: 1, Instances: 2, Takeovers: 3, Losses: 1},
	"leases": {
		Events: onePartition, Log: []string{"a1", "a2"}, Partitions: 1, Instances: 2, Takeovers: 2, Losses: 1, Leases: true},
	"two tears": {
		Events: onePartition, Log: []string{"a1", "b1", "a2"}, Partitions: 1, Instances: 1, Takeovers: 2, Tears: 2, Compacts: true},
	"three tears": {
		Events: onePartition, Log: []string{"a1", "b1", "a2"}, Partitions: 1, Instances: 1, Takeovers: 1, Tears: 3},
	"tears around a dead letter and a link": {
		Events: onePartition, Log: []string{"letter", "a1", "unlink"}, Partitions: 1, Instances: 1, Takeovers: 2, Tears: 2},
	"a tear between two instances": {
		Events: onePartition, Log: []string{"a1", "a2"}, Partitions: 1, Instances: 2, Takeovers: 3, Tears: 1},
	"a tear over two partitions": {
		Events: twoPartitions, Log: []string{"withdraw", "grant"}, Partitions: 2, Instances: 1, Takeovers: 2, Tears: 1},
	"two tears over two partitions": {
		Events: twoPartitions, Log: []string{"a1", "grant"}, Partitions: 2, Instances: 1, Takeovers: 2, Tears: 2},
	"a tear behind the answer": {
		Events: onePartition, Log: []string{"a1", "b1", "a2"}, Partitions: 1, Instances: 2, Takeovers: 2, Tears: 1, TearsAnswered: true},
	"topics made anew": {
		Events: onePartition, Log: []string{"a1", "a2", "a3"}, Partitions: 1, Instances: 2, Takeovers: 3, Renewals: 1},
}

// huge configurations, for -large.
var huge = map[string]Config{
	"three instances":               {Events: onePartition, Log: []string{"a1", "a2"}, Partitions: 1, Instances: 3, Takeovers: 3, Losses: 1},
	"two losses, three claims":      {Events: onePartition, Log: []string{"a1", "a2"}, Partitions: 1, Instances: 2, Takeovers: 3, Losses: 2},
	"a link, three claims":          {Events: twoPartitions, Log: []string{"link"}, Partitions: 2, Instances: 2, Takeovers: 3, Losses: 1},
	"a tear and a loss":             {Events: onePartition, Log: []string{"a1", "a2"}, Partitions: 1, Instances: 2, Takeovers: 2, Tears: 1, Losses: 1},
	"three tears, two claims":       {Events: onePartition, Log: []string{"a1", "b1", "a2"}, Partitions: 1, Instances: 1, Takeovers: 2, Tears: 3},
	"two tears, three claims":       {Events: onePartition, Log: []string{"a1", "b1", "a2"}, Partitions: 1, Instances: 1, Takeovers: 3, Tears: 2, Compacts: true},
	"two tears over a carry":        {Events: twoPartitions, Log: []string{"withdraw"}, Partitions: 2, Instances: 1, Takeovers: 2, Tears: 2},
	"two tears behind the answer":   {Events: onePartition, Log: []string{"a1", "a2"}, Partitions: 1, Instances: 2, Takeovers: 2, Tears: 2, TearsAnswered: true},
	"a lease and a link":            {Events: twoPartitions, Log: []string{"link"}, Partitions: 2, Instances: 2, Takeovers: 2, Losses: 1, Leases: true},
	"topics made anew, four claims": {Events: onePartition, Log: []string{"a1", "a2", "a3"}, Partitions: 1, Instances: 2, Takeovers: 4, Renewals: 1},
}

// racedStates bounds an exploration under the race detector, which has nothing to find in
// one goroutine and makes it many times slower.
const racedStates = 10_000

// explored visits a configuration under some deviations. all is false where the race detector left off.
func explored(t *testing.T, c Config, d Deviation) (r Result, all bool) {
	t.Helper()
	c.Deviations = d
	if raced {
		c.MaxStates = racedStates
	}
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r, err = m.Explore()
	t.Logf("%d states, %d steps, %d deep, %s", r.States, r.Transitions, r.Depth, r.Elapsed.Round(1e6))
	if err != nil && (!raced || !errors.Is(err, ErrTooLarge)) {
		t.Fatal(err)
	}
	return r, err == nil
}

// broken is the violation that a configuration must have.
func broken(t *testing.T, c Config, d Deviation) *Violation {
	t.Helper()
	r, all := explored(t, c, d)
	if !all {
		t.Skip("it is farther away than the race detector goes")
	}
	if r.Violation == nil {
		t.Fatalf("nothing breaks in %d states", r.States)
	}
	return r.Violation
}

func holds(t *testing.T, c Config, d Deviation) Result {
	t.Helper()
	r, _ := explored(t, c, d)
	if r.Violation != nil {
		t.Errorf("%s: %v", d, r.Violation)
	}
	return r
}
