package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TopicSpec is a topic as it should be.
type TopicSpec struct {
	Name        string
	Partitions  int
	Replication int               // only for a topic that is made; 0 = the cluster's default
	Config      map[string]string // what is not named here is left alone
}

// ConfigChange is one setting that differs. From is empty where the topic is new.
type ConfigChange struct{ Name, From, To string }

// TopicChange is what was done to a topic, or would be in a dry run.
type TopicChange struct {
	Topic      string
	Created    bool
	Partitions int // of a topic that was made
	Config     []ConfigChange
}

// Provision makes topics what specs say: it creates the missing and sets the settings
// that differ, and nothing else. It returns only what changed, so a second call
// returns nothing. When it returns, each partition has a leader.
//
// A topic with another number of partitions is an error, before anything is changed:
// the partition of every key would move. No topic is ever deleted or shrunk.
func (c *Client) Provision(ctx context.Context, specs []TopicSpec, dryRun bool) ([]TopicChange, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	existing, err := c.describeTopics(ctx, specs)
	if err != nil {
		return nil, fmt.Errorf("provision topics: %w", err)
	}
	var changes []TopicChange
	var create, alter []TopicSpec
	for _, spec := range specs {
		have, ok := existing[spec.Name]
		if !ok {
			change := TopicChange{Topic: spec.Name, Created: true, Partitions: spec.Partitions, Config: differences(nil, spec.Config)}
			changes = append(changes, change)
			create = append(create, spec)
			continue
		}
		if diff := differences(have, spec.Config); len(diff) > 0 {
			changes = append(changes, TopicChange{Topic: spec.Name, Config: diff})
			alter = append(alter, TopicSpec{Name: spec.Name, Config: toSet(diff)})
		}
	}
	if dryRun {
		return changes, nil
	}
	if len(create) > 0 {
		if err := c.createTopics(ctx, create); err != nil {
			return nil, fmt.Errorf("provision topics: %w", err)
		}
	}
	if len(alter) > 0 {
		if err := c.alterConfigs(ctx, alter); err != nil {
			return nil, fmt.Errorf("provision topics: %w", err)
		}
	}
	return changes, nil
}

func differences(have, want map[string]string) []ConfigChange {
	var diff []ConfigChange
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if have[name] != want[name] {
			diff = append(diff, ConfigChange{Name: name, From: have[name], To: want[name]})
		}
	}
	return diff
}

func toSet(diff []ConfigChange) map[string]string {
	set := make(map[string]string, len(diff))
	for _, d := range diff {
		set[d.Name] = d.To
	}
	return set
}

// describeTopics returns the settings of those topics that exist, after checking their
// numbers of partitions.
func (c *Client) describeTopics(ctx context.Context, specs []TopicSpec) (map[string]map[string]string, error) {
	var found map[string]foundTopic
	err := c.persist(ctx, "look up topics", func(ctx context.Context) (err error) {
		names := make([]string, len(specs))
		for i := range specs {
			names[i] = specs[i].Name
		}
		found, err = c.topics(ctx, names...)
		return err
	})
	if err != nil {
		return nil, err
	}
	var faults []error
	var names []string
	for _, spec := range specs {
		t := found[spec.Name]
		switch err := codeError(t.code); {
		case errors.Is(err, ErrUnknownTopic):
		case err != nil && classify(err) != verdictReroute:
			faults = append(faults, fmt.Errorf("topic %s: %w", spec.Name, err))
		case len(t.leaders) != spec.Partitions:
			faults = append(faults, fmt.Errorf("topic %s has %d partitions, want %d: keys would move to other partitions, so make a new topic and copy, or set the number to what it is", spec.Name, len(t.leaders), spec.Partitions))
		default:
			names = append(names, spec.Name)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if len(names) == 0 {
		return nil, nil
	}
	return c.describeConfigs(ctx, names)
}

func (c *Client) describeConfigs(ctx context.Context, names []string) (map[string]map[string]string, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, name := range names {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
		req.Resources = append(req.Resources, r)
	}
	configs := make(map[string]map[string]string, len(names))
	err := c.persist(ctx, "describe topics", func(ctx context.Context) error {
		resp := kmsg.NewPtrDescribeConfigsResponse()
		if err := c.send(ctx, anyBroker, 0, req, resp); err != nil {
			return err
		}
		for _, r := range resp.Resources {
			if r.ErrorCode != 0 {
				return fmt.Errorf("topic %s: %w%s", r.ResourceName, Code(r.ErrorCode), remark(r.ErrorMessage))
			}
			values := make(map[string]string, len(r.Configs))
			for _, config := range r.Configs {
				if config.Value != nil {
					values[config.Name] = *config.Value
				}
			}
			configs[r.ResourceName] = values
		}
		return nil
	})
	return configs, err
}

// createTopics creates topics and waits until each partition has a leader. Repeating it
// is safe: what exists by then was made by us, or by somebody with the same wish.
func (c *Client) createTopics(ctx context.Context, specs []TopicSpec) error {
	err := c.persist(ctx, "create topics", func(ctx context.Context) error {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = int32(c.config.RequestTimeout.Milliseconds())
		for _, spec := range specs {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = spec.Name, int32(spec.Partitions), int16(spec.Replication)
			if spec.Replication == 0 {
				t.ReplicationFactor = -1 // the cluster's default
			}
			for _, name := range slices.Sorted(maps.Keys(spec.Config)) {
				config := kmsg.NewCreateTopicsRequestTopicConfig()
				config.Name, config.Value = name, kmsg.StringPtr(spec.Config[name])
				t.Configs = append(t.Configs, config)
			}
			req.Topics = append(req.Topics, t)
		}
		resp := kmsg.NewPtrCreateTopicsResponse()
		if err := c.send(ctx, controller, c.config.RequestTimeout, req, resp); err != nil {
			return err
		}
		for _, t := range resp.Topics {
			if code := kafkago.Error(t.ErrorCode); code != 0 && code != kafkago.TopicAlreadyExists {
				return fmt.Errorf("topic %s: %w%s", t.Topic, Code(t.ErrorCode), remark(t.ErrorMessage))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, spec := range specs {
		if err := c.awaitLeaders(ctx, spec); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) awaitLeaders(ctx context.Context, spec TopicSpec) error {
	return c.persist(ctx, "wait for topic "+spec.Name, func(ctx context.Context) error {
		c.directory.forgetTopic(spec.Name)
		leaders, err := c.leaders(ctx, spec.Name)
		if err != nil {
			return err
		}
		if len(leaders) != spec.Partitions || slices.Contains(leaders, -1) {
			return Code(kafkago.LeaderNotAvailable)
		}
		return nil
	})
}

// alterConfigs sets the named settings only: the older AlterConfigs would reset the rest.
func (c *Client) alterConfigs(ctx context.Context, specs []TopicSpec) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	for _, spec := range specs {
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, spec.Name
		for _, name := range slices.Sorted(maps.Keys(spec.Config)) {
			config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			config.Name, config.Op, config.Value = name, kmsg.IncrementalAlterConfigOpSet, kmsg.StringPtr(spec.Config[name])
			r.Configs = append(r.Configs, config)
		}
		req.Resources = append(req.Resources, r)
	}
	return c.persist(ctx, "alter topics", func(ctx context.Context) error {
		resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
		if err := c.send(ctx, controller, 0, req, resp); err != nil {
			return err
		}
		for _, r := range resp.Resources {
			if r.ErrorCode != 0 {
				return fmt.Errorf("topic %s: %w%s", r.ResourceName, Code(r.ErrorCode), remark(r.ErrorMessage))
			}
		}
		return nil
	})
}

// TopicInfo is a topic that exists.
type TopicInfo struct {
	Name       string
	Partitions int
}

// Topics lists the topics that the credentials may see, internal ones left out.
func (c *Client) Topics(ctx context.Context) ([]TopicInfo, error) {
	var list []TopicInfo
	err := c.persist(ctx, "list topics", func(ctx context.Context) error {
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = nil // all
		resp := kmsg.NewPtrMetadataResponse()
		if err := c.send(ctx, anyBroker, 0, req, resp); err != nil {
			return err
		}
		list = list[:0]
		for _, t := range resp.Topics {
			if t.Topic != nil && !t.IsInternal && t.ErrorCode == 0 {
				list = append(list, TopicInfo{Name: *t.Topic, Partitions: len(t.Partitions)})
			}
		}
		slices.SortFunc(list, func(a, b TopicInfo) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
	return list, err
}

// remark returns a broker's own words behind a code.
func remark(message *string) string {
	if message == nil || *message == "" {
		return ""
	}
	return ": " + *message
}
