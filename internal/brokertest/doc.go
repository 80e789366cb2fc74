// Package brokertest gives tests a Kafka broker: one in the test's own process, or
// Apache Kafka, so that one test shows the same on both. docs/brokers.md says how
// the two differ.
//
// # Which broker
//
// The environment variable [Variable], which [Main] reads, decides for a whole
// package:
//
//	(unset)   a broker in this process, a fresh one for each test
//	apache    Apache Kafka, one broker
//	apache3   Apache Kafka, three brokers, replication 3, min.insync.replicas 2
//
// deploy/kafka has what starts Apache Kafka; it needs Java, and Maven the first
// time. One cluster takes seconds to start, so the tests of a package share one: it
// starts with the first test that asks, each test keeps to names that begin with
// its [Cluster.Prefix], and nothing is cleared between tests. A test that kills
// brokers, or counts topics, asks for its own ([Options.OwnCluster]).
//
// # How a harness uses it
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(brokertest.Main(m.Run, os.Getenv)) }
//
//	cluster := brokertest.Start(t, brokertest.Options{})
//	names := topic.Names{Prefix: cluster.Prefix()}
//	client, err := kafka.New(kafka.Config{Brokers: cluster.Addrs()})
//	layout := topic.Layout{Partitions: 6, Replication: cluster.Replication()}
//
// A harness that injects faults into kfake starts it itself, by
// [Options.InProcess]; its tests that do so call [Cluster.InProcessOnly].
//
// # What ends when
//
// A broker in the process and a cluster of a test's own end with the test, the
// shared cluster with [Main]. Brokers of Apache Kafka are processes of their own:
// when the test process dies without having ended them, by a kill or a time-out,
// a watcher that deploy/kafka starts beside them ends them within a second and
// removes their data.
//
// # Goroutines
//
// None of its own. The broker in the process has those of internal/embedded/broker.
package brokertest
