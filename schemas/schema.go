package schemas

import "embed"

//go:embed *.avsc
var files embed.FS

// Schema is one record type of the contract.
type Schema struct {
	Name        string // full name, such as assent.v1.ConsentEvent
	Source      []byte // the .avsc file, with docs and defaults: what to register
	Fingerprint uint64 // CRC-64-AVRO of the parsing canonical form
}

// All gives every schema, the ones that others refer to first.
func All() []Schema {
	all := []Schema{
		{Name: "assent.v1.ConsentEvent", Fingerprint: eventFingerprint},
		{Name: "assent.v1.ConsentState", Fingerprint: stateFingerprint},
		{Name: "assent.v1.ConsentChange", Fingerprint: changeFingerprint},
		{Name: "assent.v1.DeliveryAttempt", Fingerprint: deliveryFingerprint},
		{Name: "assent.v1.DeadLetter", Fingerprint: deadLetterFingerprint},
	}
	for i := range all {
		source, err := files.ReadFile(all[i].Name[len("assent.v1."):] + ".avsc")
		if err != nil {
			panic("schemas: not embedded: " + all[i].Name) // the build is broken
		}
		all[i].Source = source
	}
	return all
}
