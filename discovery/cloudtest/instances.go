package cloudtest

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// States of an instance and their codes (EC2 API reference, InstanceState).
var instanceStates = map[string]int{
	"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80,
}

var instanceForm = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)

// SetInstance adds an instance, or changes its state: pending, running,
// shutting-down, terminated, stopping or stopped. It panics for another state
// or an id that EC2 would not give.
func (c *Cloud) SetInstance(id, state string) {
	if _, ok := instanceStates[state]; !ok || !instanceForm.MatchString(id) {
		panic("cloudtest: no instance " + id + " can be " + state)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instances[id] = state
}

// RemoveInstance makes EC2 forget an instance, as it does some time after the
// termination.
func (c *Cloud) RemoveInstance(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.instances, id)
}

type xInstanceState struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

type xInstance struct {
	ID    string         `xml:"instanceId"`
	State xInstanceState `xml:"instanceState"`
}

type xReservation struct {
	ID        string           `xml:"reservationId"`
	Owner     string           `xml:"ownerId"`
	Instances items[xInstance] `xml:"instancesSet"`
}

type xReservations struct {
	Set items[xReservation] `xml:"reservationSet"`
}

// describeInstances answers with one reservation for each instance. A
// malformed id is refused before a missing one, and the refusal of missing
// ones names them all.
func (c *Cloud) describeInstances(f form) (any, error) {
	wanted := f.strings("InstanceId")
	for key := range f.vals {
		name, _, _ := strings.Cut(key, ".")
		switch name {
		case "Action", "Version", "InstanceId", "DryRun", "IncludeManagedResources":
		case "MaxResults":
			if len(wanted) > 0 {
				return nil, fail(400, "InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
			}
			return nil, fail(400, "InvalidParameterValue", "MaxResults is not known to this fake")
		default:
			return nil, fail(400, "InvalidParameterValue", "The parameter %s is not known to this fake", name)
		}
	}
	if err := c.allInstances(wanted); err != nil {
		return nil, err
	}
	if err := dryRun(f); err != nil {
		return nil, err
	}
	var out xReservations
	for _, id := range slices.Sorted(maps.Keys(c.instances)) {
		if !selected(wanted, id) {
			continue
		}
		state := c.instances[id]
		out.Set.List = append(out.Set.List, xReservation{
			ID: "r-" + id[2:], Owner: Account,
			Instances: items[xInstance]{[]xInstance{{id, xInstanceState{instanceStates[state], state}}}},
		})
	}
	return out, nil
}

func (c *Cloud) allInstances(wanted []string) error {
	var missing []string
	for _, id := range wanted {
		if !instanceForm.MatchString(id) {
			return fail(400, "InvalidInstanceID.Malformed", "Invalid id: %q", id)
		}
		if c.instances[id] == "" {
			missing = append(missing, id)
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return fail(400, "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", missing[0])
	}
	return fail(400, "InvalidInstanceID.NotFound", "The instance IDs '%s' do not exist", strings.Join(missing, ", "))
}
