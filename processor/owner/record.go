package owner

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
)

// maxRecordBytes bounds a record of consent.owners: it is a few short fields.
const maxRecordBytes = 4 << 10

// Record says who owns a stripe: the value of a record of consent.owners, as JSON. It is
// written at a takeover, in a transaction under the new epoch, so that the broker
// refuses it from whoever was fenced.
//
//	key    4/3
//	value  {"stripes":4,"stripe":3,"address":"http://10.0.0.7:8080","instance":"9f2c…","producer":17,"epoch":5,"since":"2026-03-01T09:00:00.123Z"}
type Record struct {
	// Stripes and Stripe name the stripe: the partitions p with p mod Stripes = Stripe.
	Stripes int `json:"stripes"`
	Stripe  int `json:"stripe"`
	// Address is where the owner serves its peers: http or https, host and port, no more.
	// Empty = it serves nobody else.
	Address string `json:"address,omitempty"`
	// Instance tells one start of a process from every other: a request for a process
	// that is gone is then not answered by what listens at its address now.
	Instance string `json:"instance"`
	// Producer and Epoch are those of the transaction that the record was written in.
	Producer int64 `json:"producer"`
	Epoch    int16 `json:"epoch"`
	// Since is when the stripe was taken over, by the owner's clock. For people.
	Since time.Time `json:"since"`
}

// Key is the record's key: stripes/stripe.
func (r *Record) Key() []byte {
	return []byte(strconv.Itoa(r.Stripes) + "/" + strconv.Itoa(r.Stripe))
}

// Encode gives the record's value. An error names every field that is wrong.
func (r *Record) Encode() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("encode an owner's record: %w", err)
	}
	return json.Marshal(r)
}

// Kafka gives the record as it is written to consent.owners.
func (r *Record) Kafka(names topic.Names) (kafka.Record, error) {
	value, err := r.Encode()
	if err != nil {
		return kafka.Record{}, err
	}
	return kafka.Record{Topic: names.Owners(), Key: r.Key(), Value: value}, nil
}

// DecodeRecord reads a record's value. Fields that it does not know are left alone: a
// newer version may write them.
func DecodeRecord(value []byte) (Record, error) {
	var r Record
	if len(value) > maxRecordBytes {
		return r, fmt.Errorf("decode an owner's record: it has %d bytes, at most %d", len(value), maxRecordBytes)
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return Record{}, fmt.Errorf("decode an owner's record: %w", err)
	}
	if err := r.validate(); err != nil {
		return Record{}, fmt.Errorf("decode an owner's record: %w", err)
	}
	r.Since = r.Since.UTC() // so that equal records are equal by ==
	return r, nil
}

func (r *Record) validate() error {
	var faults []error
	if r.Stripes < 1 || r.Stripe < 0 || r.Stripe >= r.Stripes {
		faults = append(faults, fmt.Errorf("stripe %d of %d does not exist", r.Stripe, r.Stripes))
	}
	if n := len(r.Instance); n < 1 || n > maxInstanceBytes {
		faults = append(faults, fmt.Errorf("instance has %d bytes, want 1 to %d", n, maxInstanceBytes))
	}
	if r.Address != "" {
		faults = append(faults, CheckAddress(r.Address))
	}
	return errors.Join(faults...)
}

// CheckAddress takes what a peer can be asked at and nothing else: no path or query, into
// which a request could be bent, and no user and password.
func CheckAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("address is no URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("address is neither http nor https")
	}
	if u.Hostname() == "" || u.Port() == "" {
		return errors.New("address has no host or no port")
	}
	if address != u.Scheme+"://"+u.Host {
		return errors.New("address has more than scheme, host and port")
	}
	return nil
}
